//! Resolver lists, written as names.

use std::{fmt, sync::Arc};

use balancer_api::{Address, Attributes, Endpoint};

/// A resolver's list, written as text: endpoints between spaces, the addresses of one endpoint
/// joined by `+`.
///
/// `#` and a number after an address makes it another peer (an attribute that is part of the
/// identity), `%` and a number after an endpoint makes it another endpoint at the same addresses (an
/// attribute of its own), `@` and a number only gives the policy news (a balancer attribute).
///
/// ```
/// use balancer_testkit::List;
/// let list = List::parse("a b+c a#1 b@2");
/// assert_eq!(list.endpoints().len(), 4);
/// assert_eq!(list.endpoints()[1].addresses().len(), 2);
/// assert_ne!(list.endpoints()[0], list.endpoints()[2], "another peer");
/// assert_ne!(List::parse("a").endpoints()[0], List::parse("a%1").endpoints()[0]);
/// assert_eq!(List::parse("b"), List::parse("b"));
/// assert_eq!(list.to_string(), "a b+c a#1 b@2");
/// ```
#[derive(Clone)]
pub struct List {
    text: Arc<str>,
    endpoints: Arc<[Endpoint]>,
}

/// An attribute that is part of an address's identity: `#1` in a [`List`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant(pub u32);

/// An attribute of an endpoint, part of its identity: `%1` in a [`List`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind(pub u32);

/// A balancer attribute: `@1` in a [`List`]. Given to the addresses and to the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct News(pub u32);

// === impl List ===

impl List {
    /// Reads a list. Every text is one; an empty text is the empty list.
    pub fn parse(text: &str) -> Self {
        Self::named(text.split_whitespace())
    }

    /// A list of endpoints by their names.
    pub fn named<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        let mut text = String::new();
        let mut endpoints = Vec::new();
        for name in names {
            let name = name.as_ref();
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(name);
            endpoints.push(endpoint(name));
        }
        Self {
            text: text.into(),
            endpoints: endpoints.into(),
        }
    }

    /// A list of endpoints made elsewhere. Its text has their addresses only.
    pub fn of(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        let endpoints: Arc<[Endpoint]> = endpoints.into_iter().collect();
        let mut text = String::new();
        for endpoint in &*endpoints {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&crate::log::joined(endpoint.addresses()));
        }
        Self {
            text: text.into(),
            endpoints,
        }
    }

    /// The endpoints.
    pub fn endpoints(&self) -> &Arc<[Endpoint]> {
        &self.endpoints
    }

    /// The same list made anew, so that nothing in it is the same object.
    #[must_use]
    pub fn remade(&self) -> Self {
        let remade = self.endpoints.iter().map(|endpoint| {
            Endpoint::new(endpoint.addresses().iter().cloned())
                .with_attributes(endpoint.attributes().clone())
                .with_balancer_attributes(endpoint.balancer_attributes().clone())
        });
        Self {
            text: self.text.clone(),
            endpoints: remade.collect(),
        }
    }
}

fn endpoint(name: &str) -> Endpoint {
    let mut news = None;
    let mut kind = None;
    let addresses = name.split('+').map(|part| {
        let (part, word) = split_number(part, '@');
        let (part, of_endpoint) = split_number(part, '%');
        kind = kind.or(of_endpoint);
        let (addr, variant) = split_number(part, '#');
        let mut address = Address::new(addr);
        if let Some(n) = variant {
            address = address.with_attributes(Attributes::new().with(Variant(n)));
        }
        if let Some(n) = word {
            news = Some(n);
            address = address.with_balancer_attributes(Attributes::new().with(News(n)));
        }
        address
    });
    let mut endpoint: Endpoint = addresses.collect();
    if let Some(n) = kind {
        endpoint = endpoint.with_attributes(Attributes::new().with(Kind(n)));
    }
    match news {
        Some(n) => endpoint.with_balancer_attributes(Attributes::new().with(News(n))),
        None => endpoint,
    }
}

fn split_number(text: &str, mark: char) -> (&str, Option<u32>) {
    match text.rsplit_once(mark) {
        Some((rest, number)) => match number.parse() {
            Ok(n) => (rest, Some(n)),
            Err(_) => (text, None),
        },
        None => (text, None),
    }
}

impl PartialEq for List {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.endpoints, &other.endpoints)
            || (self.endpoints.len() == other.endpoints.len()
                && self
                    .endpoints
                    .iter()
                    .zip(&*other.endpoints)
                    .all(|(a, b)| a.is_identical(b)))
    }
}

impl Eq for List {}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.text)
    }
}
