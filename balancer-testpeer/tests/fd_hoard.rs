//! A process without descriptors cannot connect, and can again when they come back.

use balancer_testpeer::FdHoard;
use std::{
    net::{TcpListener, TcpStream},
    process::Command,
};

const CHILD: &str = "TESTPEER_FD_HOARD_CHILD";

/// The rest of the process needs its descriptors, so the test runs again in a child with few.
#[test]
fn descriptors_run_out_and_come_back() {
    if std::env::var_os(CHILD).is_some() {
        return starve();
    }
    let this = std::env::current_exe().unwrap();
    let child = Command::new("sh")
        .args([
            "-c",
            "ulimit -n 64 && exec \"$0\" --nocapture descriptors_run_out_and_come_back",
        ])
        .arg(this)
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&child.stderr)
    );
    assert!(
        said.contains("1 passed"),
        "the child must have run the test: {said}"
    );
}

fn starve() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut hoard = FdHoard::take_all_but(0).unwrap();
    // EMFILE is 24 on every Unix that matters here.
    assert_eq!(
        TcpStream::connect(addr).unwrap_err().raw_os_error(),
        Some(24)
    );
    hoard.release(1);
    TcpStream::connect(addr).unwrap();
    drop(hoard);
    let all: Vec<_> = (0..10).map(|_| TcpStream::connect(addr).unwrap()).collect();
    assert_eq!(all.len(), 10);
}
