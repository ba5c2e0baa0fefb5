use super::*;

fn read(text: &str) -> Parsed<'_> {
    parse(text.as_bytes(), &Limits::default()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: impl AsRef<[u8]>) -> BrokenText {
    match parse(text.as_ref(), &Limits::default()) {
        Err(error) => error,
        Ok(_) => panic!("was accepted"),
    }
}

/// Pointer and word of everything FHIR forbids in `text`.
fn broken(text: &str) -> Vec<(String, &'static str)> {
    read(text)
        .broken
        .iter()
        .map(|broken| (broken.path.pointer(), broken.word))
        .collect()
}

const BUNDLE: &str = r#"{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"resourceType":"Observation",
 "status":"final","code":{"text":"H\u00e4moglobin \ud83e\ude78"},"valueQuantity":{"value":-6.40e-1,"unit":"g/dL"},"_status":{"id":"a"}}}]}"#;

#[test]
fn decimals_stay_as_written() {
    let text = "[9.40,-0.0,1e2,12345678901234567890.123456789]";
    let parsed = read(text);
    let Tree::Array(items) = &parsed.root else {
        panic!()
    };
    let written: Vec<_> = items.iter().filter_map(Tree::as_number).collect();
    assert_eq!(
        written,
        ["9.40", "-0.0", "1e+2", "12345678901234567890.123456789"]
    );
    assert_eq!(
        serde_json::to_string(&parsed.root).unwrap(),
        text.replace("1e2", "1e+2")
    );
}

#[test]
fn strings_are_borrowed_unless_escaped() {
    let parsed = read(r#"{"a":"plain","b":"\u0041"}"#);
    assert!(matches!(
        parsed.root.get("a"),
        Some(Tree::String(Cow::Borrowed("plain")))
    ));
    assert!(matches!(parsed.root.get("b"), Some(Tree::String(Cow::Owned(text))) if text == "A"));
}

#[test]
fn a_name_that_serde_json_uses_itself_is_an_ordinary_name() {
    for text in [
        r#"{"$serde_json::private::Number":"1"}"#,
        r#"{"\u0024serde_json::private::Number":"1"}"#,
        r#"{"$serde_json::private::Number":{"a":[1]},"b":2}"#,
        r#"{"$serde_json::private::RawValue":"1"}"#,
    ] {
        assert!(matches!(read(text).root, Tree::Object(_)), "{text}");
    }
    assert_eq!(
        read(r#"{"$serde_json::private::Number":"1"}"#)
            .root
            .text(NUMBER),
        Some("1")
    );
}

#[test]
fn every_truncation_is_refused() {
    assert_eq!(broken(BUNDLE), []);
    for end in 0..BUNDLE.len() {
        let error = refused(&BUNDLE.as_bytes()[..end]);
        assert_eq!(error.word, "broken-text", "cut at {end}");
    }
}

#[test]
fn text_that_is_not_json_is_refused_with_its_place() {
    for text in [
        "",
        " ",
        "nonsense",
        "{}garbage",
        "{} {}",
        "[1,]",
        "{\"a\":1,}",
        "{'a':1}",
        "{a:1}",
        "NaN",
        "[Infinity]",
        "[-Infinity]",
        "[+1]",
        "[01]",
        "[.5]",
        "[1.]",
        "[1e]",
        "[0x10]",
        "\"\\x\"",
        "\"\n\"",
        "\"\u{1}\"",
        "[1 2]",
        "// c\n{}",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "{\"\\ud800\":1}",
    ] {
        assert_eq!(refused(text).word, "broken-text", "{text}");
    }
    let error = refused("{\n  \"a\": true,\n]");
    assert_eq!((error.line, error.column), (3, 1));
    let error = refused(b"{\n\"a\":\"\xff\"}");
    assert_eq!(
        (error.word, error.line, error.column),
        ("broken-text", 2, 6)
    );
    assert_eq!(error.text, "The body is not UTF-8");
    // CESU-8: a surrogate written out as bytes.
    assert_eq!(refused(b"\"\xed\xa0\x80\"").word, "broken-text");
}

#[test]
fn one_byte_order_mark_is_left_out() {
    assert!(read("\u{feff}{\"a\":1}").byte_order_mark);
    assert!(!read("{\"a\":1}").byte_order_mark);
    assert_eq!(refused("\u{feff}\u{feff}{}").word, "broken-text");
}

#[test]
fn limits_hold_on_both_sides() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    read(&nested(64));
    assert_eq!(refused(nested(65)).word, "too-costly");
    let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    read(&nested(64));
    assert_eq!(refused(nested(65)).word, "too-costly");
    for depth in [1_000, 10_000, 100_000] {
        assert_eq!(refused(nested(depth)).word, "too-costly");
        assert_eq!(refused("[".repeat(depth)).word, "too-costly");
        assert_eq!(refused("{\"extension\":[".repeat(depth)).word, "too-costly");
    }

    let members = |count: usize| {
        let members: Vec<_> = (0..count).map(|i| format!("\"m{i}\":1")).collect();
        format!("{{{}}}", members.join(","))
    };
    read(&members(1_000));
    assert_eq!(refused(members(1_001)).word, "too-costly");

    let items = |count: usize| format!("[{}1]", "1,".repeat(count - 1));
    read(&items(20_000));
    assert_eq!(refused(items(20_001)).word, "too-costly");

    let mib = 1024 * 1024;
    let string = |name: &str, bytes: usize| format!("{{\"{name}\":\"{}\"}}", "x".repeat(bytes));
    read(&string("div", mib));
    assert_eq!(refused(string("div", mib + 1)).word, "too-long");
    read(&string("data", 8 * mib));
    assert_eq!(refused(string("data", 8 * mib + 1)).word, "too-long");

    read(&format!("[{}.{}]", "1".repeat(20), "2".repeat(20)));
    assert_eq!(refused(format!("[{}]", "1".repeat(41))).word, "too-long");
    assert_eq!(refused(format!("[{}]", "9".repeat(400))).word, "too-long");
    read("[1e-99]");
    assert_eq!(refused("[1e999]").word, "too-long");

    read(&string(&"n".repeat(256), 1));
    assert_eq!(refused(string(&"n".repeat(257), 1)).word, "too-long");

    let limits = Limits {
        values: 10,
        ..Limits::default()
    };
    assert!(parse(b"[1,1,1,1,1,1,1,1,1]", &limits).is_ok());
    let error = parse(b"[1,1,1,1,1,1,1,1,1,1]", &limits).unwrap_err();
    assert_eq!(error.word, "too-costly");
}

#[test]
fn what_fhir_forbids_is_noted_and_the_rest_is_read() {
    let text =
        r#"{"a":[],"b":{},"c":"","d":null,"e":1,"e":2,"f":[[null]],"g":[{"h":null}],"z":"end"}"#;
    assert_eq!(
        broken(text),
        [
            ("/a".to_owned(), "empty-value"),
            ("/b".to_owned(), "empty-value"),
            ("/c".to_owned(), "empty-value"),
            ("/d".to_owned(), "empty-value"),
            ("/e".to_owned(), "duplicate-key"),
            ("/f/0/0".to_owned(), "empty-value"),
            ("/g/0/h".to_owned(), "empty-value"),
        ]
    );
    let parsed = read(text);
    assert_eq!(parsed.root.text("z"), Some("end"));
    assert_eq!(parsed.root.get("e").and_then(Tree::as_number), Some("1"));
    for text in ["null", "[]", "{}", "\"\""] {
        assert_eq!(broken(text), [(String::new(), "empty-value")], "{text}");
    }
}

#[test]
fn a_duplicate_is_found_among_many_members_too() {
    let mut members: Vec<_> = (0..100).map(|i| format!("\"m{i}\":1")).collect();
    members.push("\"m50\":2".to_owned());
    assert_eq!(
        broken(&format!("{{{}}}", members.join(","))),
        [("/m50".to_owned(), "duplicate-key")]
    );
    // Equal after unescaping is equal.
    assert_eq!(
        broken(r#"{"ab":1,"\u0061b":2}"#),
        [("/ab".to_owned(), "duplicate-key")]
    );
}

#[test]
fn null_may_stand_only_where_its_sibling_has_something() {
    for text in [
        r#"{"given":["A",null],"_given":[null,{"id":"x"}]}"#,
        r#"{"_given":[null,{"id":"x"}],"given":["A",null]}"#,
    ] {
        assert_eq!(broken(text), [], "{text}");
    }
    let at = |pointer: &str| vec![(pointer.to_owned(), "empty-value")];
    assert_eq!(broken(r#"{"given":["A",null]}"#), at("/given/1"));
    assert_eq!(
        broken(r#"{"given":["A",null],"_given":[{"id":"x"}]}"#),
        at("/given/1")
    );
    assert_eq!(broken(r#"{"_given":[null]}"#), at("/_given/0"));
    assert_eq!(broken(r#"{"coding":[null]}"#), at("/coding/0"));
    assert_eq!(
        broken(r#"{"given":[null],"_given":[null]}"#),
        [
            ("/given/0".to_owned(), "empty-value"),
            ("/_given/0".to_owned(), "empty-value")
        ]
    );
}

#[test]
fn damage_is_charged_to_its_entry_and_stays_small() {
    let parsed = read(r#"{"entry":[{"a":1},{"resource":{"category":[]}},{"b":null}]}"#);
    let entries: Vec<_> = parsed.broken.iter().map(|b| b.path.entry()).collect();
    assert_eq!(entries, [Some(1), Some(2)]);

    let empties = format!(
        "{{\"entry\":[{{\"x\":[{}1]}},{{\"y\":[]}}]}}",
        "[],".repeat(10_000)
    );
    let parsed = read(&empties);
    assert_eq!(parsed.broken.len(), BROKEN_PER_ENTRY + 1);
    assert_eq!(parsed.broken.last().unwrap().path.entry(), Some(1));
    let empties = format!("[{}1]", "[],".repeat(10_000));
    assert_eq!(read(&empties).broken.len(), BROKEN_OUTSIDE);
}

#[test]
fn what_we_make_ourselves_is_the_same_tree() {
    let value: Value = serde_json::from_str(BUNDLE).unwrap();
    assert_eq!(from_value(&value), read(BUNDLE).root);
    assert_eq!(read(BUNDLE).root.to_value(), value);
}

/// The validator must judge a tree as it judges `serde_json`'s own value.
#[test]
fn a_schema_judges_the_tree_as_it_judges_a_value() {
    let schemas = [
        r#"{"type":"integer"}"#,
        r#"{"type":["number","null"],"minimum":1.5,"maximum":1e2,"multipleOf":0.5}"#,
        r#"{"exclusiveMinimum":0}"#,
        r#"{"const":1.0}"#,
        r#"{"const":{"a":[1,"x",null]}}"#,
        r#"{"enum":["x",2,null,true,[1],{"a":1}]}"#,
        r#"{"type":"string","minLength":2,"maxLength":3,"pattern":"^\\S+$"}"#,
        r#"{"type":"array","uniqueItems":true,"minItems":2,"maxItems":3}"#,
        r#"{"contains":{"const":1},"minContains":2}"#,
        r#"{"prefixItems":[{"type":"number"}],"items":{"type":"string"}}"#,
        r#"{"unevaluatedItems":false}"#,
        r#"{"required":["a"],"properties":{"a":{"type":"number"}},"additionalProperties":false}"#,
        r#"{"propertyNames":{"maxLength":1},"minProperties":1,"maxProperties":2}"#,
        r#"{"patternProperties":{"^a":{"type":"number"}},"unevaluatedProperties":false}"#,
        r#"{"if":{"required":["a"]},"then":{"required":["b"]},"else":{"maxProperties":0}}"#,
        r#"{"anyOf":[{"type":"string"},{"required":["a"]}],"not":{"required":["b"]}}"#,
        r##"{"oneOf":[{"type":"object"},{"type":"array","items":{"$ref":"#"}}]}"##,
        r#"{"dependentRequired":{"a":["b"]}}"#,
        "false",
    ];
    let documents = [
        "null",
        "true",
        "0",
        "1",
        "1.0",
        "1.50",
        "2",
        "-1",
        "100",
        "101",
        "1e2",
        "12345678901234567890",
        "0.1",
        "\"\"",
        "\"x\"",
        "\"xy\"",
        "\"x y\"",
        "\"häm\"",
        "\"abcd\"",
        "[]",
        "[1]",
        "[1,1]",
        "[1,1.0]",
        "[1,2]",
        "[1,\"x\"]",
        "[\"1\",1,2,3]",
        "[[1],[1]]",
        "[[[]]]",
        "{}",
        r#"{"a":1}"#,
        r#"{"a":"1"}"#,
        r#"{"a":1,"b":2}"#,
        r#"{"b":2}"#,
        r#"{"ab":1}"#,
        r#"{"a":[1,"x",null]}"#,
        r#"{"x":{"a":1}}"#,
    ];
    for schema in schemas {
        let schema: Value = serde_json::from_str(schema).unwrap();
        let over_values = jsonschema::options().build(&schema).unwrap();
        let over_trees = jsonschema::options_for::<TreeJson>()
            .build(&schema)
            .unwrap();
        for text in documents {
            let value: Value = serde_json::from_str(text).unwrap();
            let places = |errors: jsonschema::ErrorIterator<'_>| -> Vec<_> {
                errors
                    .map(|error| {
                        (
                            error.instance_path().to_string(),
                            error.schema_path().to_string(),
                        )
                    })
                    .collect()
            };
            let tree = read(text).root;
            assert_eq!(
                places(over_trees.iter_errors(&tree)),
                places(over_values.iter_errors(&value)),
                "{text} against {schema}"
            );
            assert_eq!(over_trees.is_valid(&tree), over_values.is_valid(&value));
        }
    }
}
