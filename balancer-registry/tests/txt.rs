//! Service config choices in DNS TXT records (A2).

use balancer_registry::{Limits, TxtClient, parse_txt_choices};

/// What a client is given by one record with these choices.
fn choose(choices: &str, client: TxtClient<'_>) -> Option<String> {
    let record = format!("grpc_config={choices}");
    let choices = parse_txt_choices([[record]], &Limits::default()).expect("valid choices");
    choices.choose(&client).map(str::to_owned)
}

/// The errors of records, as they read.
fn refuse(records: &[&str]) -> Vec<String> {
    let records = records.iter().map(|record| [record.as_bytes()]);
    let error = parse_txt_choices(records, &Limits::default()).expect_err("must be invalid");
    error.errors().iter().map(ToString::to_string).collect()
}

fn client(roll: u8) -> TxtClient<'static> {
    TxtClient::new("rust", "web-7.example", roll)
}

#[test]
fn the_first_choice_for_this_client_is_taken() {
    let choices = r#"[
        {"clientLanguage":["go","c++"],"serviceConfig":{"a":1}},
        {"clientHostname":["web-8.example"],"serviceConfig":{"a":2}},
        {"clientLanguage":["RUST"],"clientHostname":["db-1.example","WEB-7.example"],"percentage":30,
         "serviceConfig":{"a":3}},
        {"clientLanguage":[],"clientHostname":null,"percentage":60,"serviceConfig":{ "a" : 4 }},
        {"percentage":0,"serviceConfig":{"a":5}}
    ]"#;
    for (roll, expected) in [
        (0, Some(r#"{"a":3}"#)),
        (29, Some(r#"{"a":3}"#)),
        (30, Some(r#"{ "a" : 4 }"#)),
        (59, Some(r#"{ "a" : 4 }"#)),
        (60, None),
        (99, None),
    ] {
        assert_eq!(choose(choices, client(roll)).as_deref(), expected, "{roll}");
    }
    assert_eq!(choose("[]", client(0)), None);
    assert_eq!(
        choose(r#"[{"serviceConfig":{}}]"#, client(99)).as_deref(),
        Some("{}")
    );
    assert_eq!(
        choose(r#"[{"percentage":"100","serviceConfig":{}}]"#, client(99)).as_deref(),
        Some("{}")
    );
}

#[test]
fn a_choice_that_is_not_understood_spoils_all() {
    for (choices, error) in [
        (
            r#"[{"serviceConfig":{}},{"percent":5,"serviceConfig":{}}]"#,
            "grpc_config[1].percent: 5: unknown field; known here are clientLanguage, percentage, \
             clientHostname, serviceConfig",
        ),
        (
            r#"[{"percentage":101,"serviceConfig":{}}]"#,
            "grpc_config[0].percentage: 101: must be a whole number from 0 to 100",
        ),
        (
            r#"[{"percentage":-1,"serviceConfig":{}}]"#,
            "grpc_config[0].percentage: -1: must be a whole number from 0 to 100",
        ),
        (
            r#"[{"clientLanguage":"rust","serviceConfig":{}}]"#,
            "grpc_config[0].clientLanguage: \"rust\": must be a list",
        ),
        (
            r#"[{"clientHostname":["a",1],"serviceConfig":{}}]"#,
            "grpc_config[0].clientHostname[1]: 1: must be a string",
        ),
        (r#"[{}]"#, "grpc_config[0].serviceConfig: is required"),
        (
            r#"[{"serviceConfig":null}]"#,
            "grpc_config[0].serviceConfig: is required",
        ),
        (
            r#"[{"serviceConfig":[]}]"#,
            "grpc_config[0].serviceConfig: []: must be an object",
        ),
        (r#"[7]"#, "grpc_config[0]: 7: must be an object"),
        ("{}", "grpc_config: {}: must be a list of choices"),
        (
            r#"[{"serviceConfig":{"a":1,"a":2}}]"#,
            "[0].serviceConfig.a: 2: a key must be given only once",
        ),
        (
            "",
            "must be JSON: expected a value at line 1 column 1, where the text ends",
        ),
    ] {
        assert_eq!(
            refuse(&[&format!("grpc_config={choices}")]),
            [error],
            "{choices}"
        );
    }
}

#[test]
fn other_records_are_passed_over_and_choices_counted_through() {
    let records = [
        "v=spf1 -all",
        r#"grpc_config=[{"percentage":0,"serviceConfig":{}}]"#,
        "GRPC_CONFIG=[",
        r#"grpc_config=[{"serviceConfig":7}]"#,
    ];
    assert_eq!(
        refuse(&records),
        ["grpc_config[1].serviceConfig: 7: must be an object"]
    );
    let none = parse_txt_choices([["v=spf1 -all"]], &Limits::default()).expect("valid");
    assert_eq!(none.choose(&client(0)), None);
    let none = parse_txt_choices(Vec::<Vec<Vec<u8>>>::new(), &Limits::default()).expect("valid");
    assert_eq!(none.choose(&client(0)), None);
}

#[test]
fn strings_of_a_record_are_put_together() {
    let record = r#"grpc_config=[{"serviceConfig":{"é":1}}]"#.as_bytes();
    for size in [1, 7, 255] {
        let choices = parse_txt_choices([record.chunks(size)], &Limits::default()).expect("valid");
        assert_eq!(
            choices.choose(&client(99)),
            Some(r#"{"é":1}"#),
            "strings of {size}"
        );
    }
}

#[test]
fn all_records_together_are_limited() {
    let record = |size: usize| format!("grpc_config=[]{}", " ".repeat(size - 2));
    let limits = Limits::default();
    assert!(parse_txt_choices([[record(65_536)]], &limits).is_ok());
    assert!(parse_txt_choices([[record(65_537)]], &limits).is_err());
    assert!(parse_txt_choices([[record(65_530)], [record(6)]], &limits).is_ok());
    assert!(parse_txt_choices([[record(65_530)], [record(7)]], &limits).is_err());
    // What is too long is too long in whichever strings it comes.
    let [start, end] = [
        "grpc_config=[]".to_owned() + &" ".repeat(65_534),
        "x".to_owned(),
    ];
    assert!(parse_txt_choices([[start.clone(), String::new()]], &limits).is_ok());
    assert!(parse_txt_choices([[start, end]], &limits).is_err());
    // An endless record is not even put together: what is needed to find it too long, and no more.
    let mut small = Limits::default();
    small.max_bytes = 100;
    let mut taken = 0;
    let strings = (0..1_000).map(|_| "grpc_config=[".to_owned());
    let counted = strings.inspect(|_| taken += 1);
    assert!(parse_txt_choices([counted], &small).is_err());
    assert_eq!(taken, 9, "112 bytes are 8 of them and a bit");
    let endless = std::iter::repeat_n("grpc_config=[".to_owned(), 1 << 30);
    assert!(parse_txt_choices([endless], &limits).is_err());
}

#[test]
fn debug_shows_no_configuration() {
    let record = r#"grpc_config=[{"serviceConfig":{"token":"S3CR3T-71c0"}}]"#;
    let choices = parse_txt_choices([[record]], &Limits::default()).expect("valid");
    let shown = format!("{choices:?}");
    assert!(!shown.contains("S3CR3T"), "{shown}");
    let record = r#"grpc_config=[{"clientLanguage":["rust"],"percentage":30,"serviceConfig":{}}]"#;
    let choices = parse_txt_choices([[record]], &Limits::default()).expect("valid");
    let shown = format!("{choices:?}");
    for part in ["rust", "percentage: 30", "bytes: 2"] {
        assert!(shown.contains(part), "who it is for: {part} in {shown}");
    }
}
