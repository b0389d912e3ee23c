//! Logging in, the simple and the extended protocol, COPY: message by message.

use std::io::{Read, Write};

use expect_test::expect;

use crate::harness::{PASSWORD, Raw, Server, message};

#[test]
fn strangers_get_postgresql_s_answers() {
    let server = Server::start();
    let refused = |role: &str, password: &str| {
        let mut raw = Raw::connect(&server);
        raw.start(role);
        let report = raw.prove(password).unwrap();
        let text: Vec<String> = report
            .into_iter()
            .map(|(code, text)| format!("{code} {text}"))
            .collect();
        text.join("\n")
    };
    expect![[r#"
        S FATAL
        V FATAL
        C 28P01
        M password authentication failed for user "boathouse""#]]
    .assert_eq(&refused("boathouse", "wrong"));
    expect![[r#"
        S FATAL
        V FATAL
        C 28P01
        M password authentication failed for user "nobody""#]]
    .assert_eq(&refused("nobody", "wrong"));
}

#[test]
fn without_tls_the_request_is_declined() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    raw.stream.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").unwrap();
    let mut answer = [0];
    raw.stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"N");
    raw.start("boathouse");
    assert_eq!(raw.prove(crate::harness::PASSWORD), None);
}

#[test]
fn one_client_too_many_is_told_so() {
    let server = Server::start_with(&["--connections-max", "1"]);
    let (_first, _) = Raw::log_in(&server);
    let mut second = Raw::connect(&server);
    second.start("boathouse");
    expect![[r#"
        E 53300 sorry, too many clients already
        closed
    "#]]
    .assert_eq(&second.conversation());
}

#[test]
fn several_statements_are_one_query() {
    let server = Server::start();
    let (mut raw, _) = Raw::log_in(&server);
    expect![[r#"
        T 1 columns
        D 1
        C SELECT 1
        T 2 columns
        D a|NULL
        C SELECT 1
        Z I
    "#]]
    .assert_eq(&raw.query("SELECT 1; SELECT 'a' AS a, NULL AS b"));
    expect![[r#"
        I
        Z I
    "#]]
    .assert_eq(&raw.query(" ; -- nothing"));
    expect![[r#"
        E 42601 syntax error at or near "SELEC"
        Z I
    "#]]
    .assert_eq(&raw.query("SELEC 1"));
}

#[test]
fn an_error_fails_the_transaction() {
    let server = Server::start();
    let (mut raw, _) = Raw::log_in(&server);
    expect![[r#"
        C BEGIN
        Z T
    "#]]
    .assert_eq(&raw.query("BEGIN"));
    expect![[r#"
        E 42P01 relation "missing" does not exist
        Z E
    "#]]
    .assert_eq(&raw.query("SELECT * FROM missing"));
    expect![[r#"
        E 25P02 current transaction is aborted, commands ignored until end of transaction block
        Z E
    "#]]
    .assert_eq(&raw.query("SELECT 1"));
    expect![[r#"
        C ROLLBACK
        Z I
    "#]]
    .assert_eq(&raw.query("COMMIT"));
}

#[test]
fn a_portal_is_fetched_in_parts() {
    let server = Server::start();
    let (mut raw, _) = Raw::log_in(&server);
    let mut sent = message(
        'P',
        b"s\0SELECT $1::int + x FROM (VALUES (1), (2), (3)) v(x)\0\0\0",
    );
    sent.extend(message('D', b"Ss\0"));
    sent.extend(message('B', b"p\0s\0\0\0\0\x01\0\0\0\x0210\0\0"));
    sent.extend(message('D', b"Pp\0"));
    sent.extend(message('E', b"p\0\0\0\0\x02"));
    sent.extend(message('E', b"p\0\0\0\0\x02"));
    sent.extend(message('E', b"p\0\0\0\0\0"));
    sent.extend(message('S', b""));
    raw.stream.write_all(&sent).unwrap();
    expect![[r#"
        1
        t 23
        T 1 columns
        2
        T 1 columns
        D 11
        D 12
        s
        D 13
        C SELECT 1
        C SELECT 0
        Z I
    "#]]
    .assert_eq(&raw.conversation());
}

#[test]
fn after_an_error_everything_up_to_sync_is_left_out() {
    let server = Server::start();
    let (mut raw, _) = Raw::log_in(&server);
    let mut sent = message('B', b"\0missing\0\0\0\0\0\0\0");
    sent.extend(message('E', b"\0\0\0\0\0"));
    sent.extend(message('P', b"\0SELECT 1\0\0\0"));
    sent.extend(message('S', b""));
    sent.extend(message('E', b"missing\0\0\0\0\0"));
    sent.extend(message('S', b""));
    raw.stream.write_all(&sent).unwrap();
    expect![[r#"
        E 26000 prepared statement "missing" does not exist
        Z I
    "#]]
    .assert_eq(&raw.conversation());
    expect![[r#"
        E 34000 portal "missing" does not exist
        Z I
    "#]]
    .assert_eq(&raw.conversation());
}

#[test]
fn a_stopped_execute_leaves_no_transaction() {
    let server = Server::start();
    let (mut raw, _) = Raw::log_in(&server);
    raw.query("CREATE TABLE t (a bigint); SET statement_timeout = '200ms'");
    let insert = "INSERT INTO t SELECT x.a FROM generate_series(1, 1000000) AS x(a), \
                  generate_series(1, 1000000) AS y(b)";
    let mut sent = message('P', format!("\0{insert}\0\0\0").as_bytes());
    sent.extend(message('B', b"\0\0\0\0\0\0\0\0"));
    sent.extend(message('E', b"\0\0\0\0\0"));
    sent.extend(message('S', b""));
    raw.stream.write_all(&sent).unwrap();
    assert_eq!(
        raw.conversation(),
        "1\n2\nE 57014 canceling statement due to statement timeout\nZ I\n"
    );
    assert_eq!(raw.query("INSERT INTO t VALUES (1)"), "C INSERT 0 1\nZ I\n");
    drop(raw);
    let (mut other, _) = Raw::log_in(&server);
    assert_eq!(
        other.query("SELECT a FROM t"),
        "T 1 columns\nD 1\nC SELECT 1\nZ I\n"
    );
}

#[test]
fn copy_goes_both_ways() {
    let server = Server::start();
    let (mut raw, _) = Raw::log_in(&server);
    raw.query("CREATE TABLE t (id integer, name text)");
    raw.send('Q', b"COPY t FROM STDIN\0");
    assert_eq!(raw.receive().unwrap().0, 'G');
    raw.send('d', b"1\ta\n2\t");
    raw.send('d', b"\\N\n");
    raw.send('c', b"");
    expect![[r#"
        C COPY 2
        Z I
    "#]]
    .assert_eq(&raw.conversation());
    raw.send('Q', b"COPY t FROM STDIN (FORMAT csv)\0");
    raw.send('d', b"x,y\n");
    raw.send('c', b"");
    expect![[r#"
        G
        E 22P02 invalid input syntax for type integer: "x"
        Z I
    "#]]
    .assert_eq(&raw.conversation());
    expect![[r#"
        H
        d
        d
        c
        C COPY 2
        Z I
    "#]]
    .assert_eq(&raw.query("COPY (SELECT * FROM t ORDER BY id) TO STDOUT (FORMAT csv)"));
}

#[test]
fn health_is_open_and_metrics_are_on_loopback() {
    let server = Server::start();
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(server.http_address).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    assert!(get("/health").ends_with("alive\n"));
    assert!(get("/ready").ends_with("ready\n"));
    let metrics = get("/metrics");
    for name in [
        "boathouse_connections 0",
        "boathouse_queries_total",
        "boathouse_pipeline_runs{",
    ] {
        assert!(metrics.contains(name), "{metrics}");
    }
}

#[test]
fn startup_parameters_and_options_are_settings() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    let parameters = [
        ("search_path", "X,\"Y y\""),
        (
            "options",
            "-c statement_timeout=5s --search-path=z -capp.name=a\\ b",
        ),
    ];
    raw.start_with("boathouse", &parameters);
    assert_eq!(raw.prove(PASSWORD), None);
    assert!(raw.conversation().ends_with("Z I\n"));
    for (setting, value) in [
        ("statement_timeout", "5s"),
        ("search_path", "x, \"Y y\""),
        ("app.name", "a b"),
    ] {
        let answer = raw.query(&format!("SHOW {setting}"));
        assert!(answer.contains(&format!("D {value}\n")), "{answer}");
    }
    let mut refused = Raw::connect(&server);
    refused.start_with("boathouse", &[("options", "-x")]);
    let answer = refused.conversation();
    assert!(
        answer.starts_with("E 42601 invalid command-line argument"),
        "{answer}"
    );
}

#[test]
fn messages_below_the_client_s_least_are_not_sent() {
    let server = Server::start();
    let (mut raw, _) = Raw::log_in(&server);
    let skipped = "DROP TABLE IF EXISTS nothing_here";
    assert!(raw.query(skipped).contains("N 00000"));
    raw.query("SET client_min_messages = warning");
    assert_eq!(raw.query(skipped), "C DROP TABLE\nZ I\n");
    assert!(raw.query("COMMIT").contains("N 25P01"));
    raw.query("SET client_min_messages = error");
    assert_eq!(raw.query("COMMIT"), "C COMMIT\nZ I\n");
}
