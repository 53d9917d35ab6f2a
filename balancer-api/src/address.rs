//! Where backends are: addresses, and the endpoints that have them.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::{Attributes, hash::FixedHasher};

/// One network address of a backend.
///
/// Two addresses are equal when their text, server name and [attributes](Address::attributes) are;
/// the [balancer attributes](Address::balancer_attributes) are news for the policy and no part of
/// the identity: when only they change, a connection is kept.
///
/// The text is what a channel's dialer understands: `ip:port`, `[ip6]:port`, `host:port`, or
/// `unix:path`.
///
/// ```
/// use balancer_api::Address;
/// let a = Address::new("10.0.0.1:443").with_server_name("a.example");
/// assert_eq!(a.addr(), "10.0.0.1:443");
/// assert_ne!(a, Address::new("10.0.0.1:443"), "another name is another peer");
/// ```
///
/// Cheap to clone, and one word wide: a channel with 100,000 SubConns has each in several places.
#[derive(Clone)]
pub struct Address(Arc<AddressInner>);

#[derive(Clone)]
struct AddressInner {
    addr: Arc<str>,
    server_name: Option<Arc<str>>,
    attributes: Attributes,
    balancer_attributes: Attributes,
}

/// A backend with all the addresses under which it can be reached.
///
/// A policy makes one SubConn per endpoint and gives it all the addresses. Two endpoints are equal
/// when they have the same *set* of addresses and equal attributes of their own; order does not
/// matter, and the balancer attributes are no part of the identity. An address given twice counts
/// once. Cheap to clone.
///
/// ```
/// use balancer_api::{Address, Endpoint};
/// let dual = Endpoint::new([Address::new("[::1]:80"), Address::new("127.0.0.1:80")]);
/// let turned = Endpoint::new([Address::new("127.0.0.1:80"), Address::new("[::1]:80")]);
/// assert_eq!(dual, turned);
/// assert_eq!(Endpoint::from("127.0.0.1:80").addresses().len(), 1);
/// ```
#[derive(Clone)]
pub struct Endpoint(Arc<EndpointInner>);

#[derive(Clone)]
struct EndpointInner {
    /// Distinct, in the resolver's order.
    addresses: Addresses,
    attributes: Attributes,
    balancer_attributes: Attributes,
    /// Of the identity; the sum over the addresses, so that their order does not matter.
    hash: u64,
}

/// As a rule there is one, and no list is made for it.
#[derive(Clone)]
enum Addresses {
    One(Address),
    List(Arc<[Address]>),
}

// === impl Address ===

impl Address {
    /// An address without a name or attributes of its own.
    pub fn new(addr: impl Into<Arc<str>>) -> Self {
        Self(Arc::new(AddressInner {
            addr: addr.into(),
            server_name: None,
            attributes: Attributes::new(),
            balancer_attributes: Attributes::new(),
        }))
    }

    /// The name that the server's certificate is checked against, where it is not the target's.
    /// A channel uses it only when the application allowed names from the resolver.
    #[must_use]
    pub fn with_server_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.inner_mut().server_name = Some(name.into());
        self
    }

    /// Attributes that are part of the address's identity: when they change, it is another peer.
    #[must_use]
    pub fn with_attributes(mut self, attributes: Attributes) -> Self {
        self.inner_mut().attributes = attributes;
        self
    }

    /// Attributes for the policy only; a change of them closes no connection.
    #[must_use]
    pub fn with_balancer_attributes(mut self, attributes: Attributes) -> Self {
        self.inner_mut().balancer_attributes = attributes;
        self
    }

    /// The text to dial.
    pub fn addr(&self) -> &str {
        &self.0.addr
    }

    /// See [`with_server_name`](Self::with_server_name).
    pub fn server_name(&self) -> Option<&str> {
        self.0.server_name.as_deref()
    }

    /// See [`with_attributes`](Self::with_attributes).
    pub fn attributes(&self) -> &Attributes {
        &self.0.attributes
    }

    /// See [`with_balancer_attributes`](Self::with_balancer_attributes).
    pub fn balancer_attributes(&self) -> &Attributes {
        &self.0.balancer_attributes
    }

    fn inner_mut(&mut self) -> &mut AddressInner {
        Arc::make_mut(&mut self.0)
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&*self.0, &*other.0);
        Arc::ptr_eq(&self.0, &other.0)
            || (a.addr == b.addr && a.server_name == b.server_name && a.attributes == b.attributes)
    }
}

impl Eq for Address {}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.addr.hash(state);
        self.0.server_name.hash(state);
        self.0.attributes.hash(state);
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        for attributes in [self.attributes(), self.balancer_attributes()] {
            if !attributes.is_empty() {
                write!(f, " {attributes:?}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.addr())?;
        match self.server_name() {
            Some(name) => write!(f, " ({name})"),
            None => Ok(()),
        }
    }
}

impl From<&str> for Address {
    fn from(addr: &str) -> Self {
        Self::new(addr)
    }
}

impl From<String> for Address {
    fn from(addr: String) -> Self {
        Self::new(addr)
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// An endpoint reached under `addresses`. Duplicates are dropped; the first of them stays.
    ///
    /// An endpoint without addresses can be made and compared; a SubConn for it cannot
    /// ([`NewSubConnError::NoAddresses`](crate::NewSubConnError::NoAddresses)).
    pub fn new(addresses: impl IntoIterator<Item = Address>) -> Self {
        let mut addresses = addresses.into_iter().fuse();
        let distinct = match (addresses.next(), addresses.next()) {
            (Some(only), None) => Addresses::One(only),
            (first, second) => {
                let mut distinct: Vec<Address> = Vec::new();
                for address in first.into_iter().chain(second).chain(addresses) {
                    if !distinct.contains(&address) {
                        distinct.push(address);
                    }
                }
                Addresses::List(distinct.into())
            }
        };
        Self(Arc::new(EndpointInner::new(
            distinct,
            Attributes::new(),
            Attributes::new(),
        )))
    }

    /// Attributes that are part of the endpoint's identity.
    #[must_use]
    pub fn with_attributes(self, attributes: Attributes) -> Self {
        let old = &*self.0;
        Self(Arc::new(EndpointInner::new(
            old.addresses.clone(),
            attributes,
            old.balancer_attributes.clone(),
        )))
    }

    /// Attributes for the policy only; a change of them closes no connection.
    #[must_use]
    pub fn with_balancer_attributes(mut self, attributes: Attributes) -> Self {
        Arc::make_mut(&mut self.0).balancer_attributes = attributes;
        self
    }

    /// The distinct addresses, in the resolver's order.
    pub fn addresses(&self) -> &[Address] {
        self.0.addresses.as_slice()
    }

    /// See [`with_attributes`](Self::with_attributes).
    pub fn attributes(&self) -> &Attributes {
        &self.0.attributes
    }

    /// See [`with_balancer_attributes`](Self::with_balancer_attributes).
    pub fn balancer_attributes(&self) -> &Attributes {
        &self.0.balancer_attributes
    }

    /// Whether nothing at all differs from `other`: identity, the order of the addresses, and the
    /// balancer attributes of the endpoint and of each address.
    pub fn is_identical(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.hash == other.0.hash
                && self.0.attributes == other.0.attributes
                && self.0.balancer_attributes == other.0.balancer_attributes
                && self.addresses() == other.addresses()
                && self
                    .addresses()
                    .iter()
                    .zip(other.addresses())
                    .all(|(a, b)| a.balancer_attributes() == b.balancer_attributes()))
    }
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&*self.0, &*other.0);
        Arc::ptr_eq(&self.0, &other.0)
            || (a.hash == b.hash
                && a.attributes == b.attributes
                && a.addresses.is_same_set(&b.addresses))
    }
}

impl Eq for Endpoint {}

impl Hash for Endpoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        list.entries(self.addresses());
        for attributes in [self.attributes(), self.balancer_attributes()] {
            if !attributes.is_empty() {
                list.entry(attributes);
            }
        }
        list.finish()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, address) in self.addresses().iter().enumerate() {
            write!(f, "{}{address}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl From<Address> for Endpoint {
    fn from(address: Address) -> Self {
        Self::new([address])
    }
}

impl From<&str> for Endpoint {
    fn from(addr: &str) -> Self {
        Self::new([Address::new(addr)])
    }
}

impl FromIterator<Address> for Endpoint {
    fn from_iter<I: IntoIterator<Item = Address>>(addresses: I) -> Self {
        Self::new(addresses)
    }
}

// === impl EndpointInner ===

impl EndpointInner {
    fn new(addresses: Addresses, attributes: Attributes, balancer_attributes: Attributes) -> Self {
        let sum = addresses.as_slice().iter().fold(0u64, |sum, address| {
            sum.wrapping_add(FixedHasher::hash_one(address))
        });
        let hash = FixedHasher::hash_one(&(sum, &attributes));
        Self {
            addresses,
            attributes,
            balancer_attributes,
            hash,
        }
    }
}

// === impl Addresses ===

impl Addresses {
    fn as_slice(&self) -> &[Address] {
        match self {
            Self::One(only) => std::slice::from_ref(only),
            Self::List(list) => list,
        }
    }

    fn is_same_set(&self, other: &Self) -> bool {
        let (a, b) = (self.as_slice(), other.as_slice());
        // Both are sets, so equal sizes and one inclusion make them equal.
        a.len() == b.len() && (a == b || a.iter().all(|address| b.contains(address)))
    }
}
