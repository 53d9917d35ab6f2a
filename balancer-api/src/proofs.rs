//! What must hold of the types, shown to the compiler: threads and object safety.

use std::sync::Arc;

use crate::{
    Address, Attributes, Balancer, Builder, CallEvent, CallRequest, Child, ChildConfig, ClientConn,
    ConfigError, ConnectivityState, Dialer, Done, DoneInfo, Endpoint, LbConfig, OnDone, Pick,
    PickError, PickOptions, Picker, ResolvedAddrs, Status, SubConn, SubConnState,
    TransportCredentials, base::ReadySet,
};

const _: () = {
    const fn shared_across_tasks<T: ?Sized + Send + Sync>() {}
    const fn moved_between_tasks<T: ?Sized + Send>() {}
    const fn stored<T: ?Sized + 'static>() {}

    shared_across_tasks::<dyn Picker>();
    shared_across_tasks::<dyn Builder>();
    shared_across_tasks::<dyn ClientConn>();
    shared_across_tasks::<dyn OnDone>();
    shared_across_tasks::<dyn Dialer>();
    shared_across_tasks::<dyn TransportCredentials>();
    shared_across_tasks::<SubConn>();
    shared_across_tasks::<ReadySet<Arc<str>>>();
    shared_across_tasks::<LbConfig>();
    shared_across_tasks::<ChildConfig>();
    shared_across_tasks::<(Address, Endpoint, Attributes, ResolvedAddrs)>();
    shared_across_tasks::<(Status, PickError, ConfigError, ConnectivityState)>();
    shared_across_tasks::<(CallRequest, CallEvent)>();
    shared_across_tasks::<SubConnState<'static>>();
    shared_across_tasks::<PickOptions<'static>>();
    shared_across_tasks::<DoneInfo<'static>>();
    moved_between_tasks::<dyn Balancer>();
    moved_between_tasks::<Child>();
    moved_between_tasks::<Pick<'static>>();
    moved_between_tasks::<Done>();
    stored::<Pick<'static>>();
};
