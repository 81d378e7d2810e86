//! Filter sets.

use std::collections::BTreeMap;

use super::Filters;

#[test]
fn both_forms_are_read_and_todays_is_written() {
    let today = Filters::from_json(r#"{"label":{"b":true,"a=1":true},"dangling":{"true":true}}"#);
    let legacy = Filters::from_json(r#"{"dangling":["true"],"label":["a=1","b"]}"#);
    let filters = today.unwrap();
    assert_eq!(filters, legacy.unwrap());
    assert_eq!(filters.get("label"), ["a=1", "b"]);
    assert_eq!(Filters::from_json(&filters.to_json()).unwrap(), filters);
    assert!(filters.bool_or("dangling", false).unwrap());
    for bad in ["x", "[]", r#"{"a":1}"#, r#"{"a":[1]}"#, r#"{"a":{"b":1}}"#] {
        assert!(Filters::from_json(bad).is_err(), "{bad}");
    }
}

#[test]
fn names_and_values_are_checked() {
    let mut filters = Filters::default();
    assert!(filters.matches("name", "anything"));
    assert_eq!(filters.to_json(), "");
    filters.add("nope", "1");
    filters.add("dangling", "maybe");
    let error = filters.validate(&["dangling"]).unwrap_err();
    assert_eq!(error.message(), "invalid filter 'nope'");
    let error = filters.bool_or("dangling", false).unwrap_err();
    assert_eq!(error.message(), "invalid filter 'dangling=[maybe]'");
}

#[test]
fn labels_need_all_and_exclude_any() {
    let labels: BTreeMap<String, String> = [("a", "1"), ("b", "")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let matches = |json: &str| Filters::from_json(json).unwrap().matches_labels(&labels);
    assert!(matches(r#"{"label":["a=1","b"]}"#));
    assert!(!matches(r#"{"label":["a=2"]}"#));
    assert!(!matches(r#"{"label":["a"],"label!":["b"]}"#));
    assert!(matches(r#"{"label!":["b=x"]}"#));
}
