//! The policy's conversation with its channel, told with the kit.

use balancer_testkit::{Script, Setup};
use newcomer_policy::builder;

#[test]
fn the_first_few_ready_backends_take_turns() {
    let mut conn = Script::with(builder(), Setup::new().config(r#"{"count":2}"#));
    conn.update(["a", "b", "c"]);
    conn.ready("c").ready("b").ready("a");
    assert_eq!(conn.picks(4), ["a", "b", "a", "b"], "must keep c in reserve");

    conn.lost("a");
    assert_eq!(conn.picks(4), ["b", "c", "b", "c"], "must bring in the reserve");

    conn.ready("a");
    assert_eq!(conn.picks(2), ["a", "b"], "must go back to the first two");
}

#[test]
fn without_a_config_one_backend_is_used() {
    let mut conn = Script::start(builder(), ["a", "b"]);
    conn.ready("a").ready("b");
    assert_eq!(conn.picks(3), ["a", "a", "a"]);
}
