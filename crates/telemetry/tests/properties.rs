//! Properties over generated input: what the encoder writes the parser reads back, and nothing that
//! comes from outside makes a panic or a second line.

use proptest::prelude::*;
use telemetry::metrics::{Column, Filter, Kind, Limits, Origin, prometheus};
use telemetry::{Registry, fuzzing, scrape};

/// Pieces of formats, so that generated ones get past the first operator.
fn format_piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Z_]{1,12}".prop_map(|name| format!("%{name}%")),
        "(REQ|RESP|TRAILER)"
            .prop_flat_map(|op| "[a-zA-Z:?-]{0,9}".prop_map(move |name| format!("%{op}({name}):3%"))),
        "[%YmdHMSEfsz0-9 ().:]{0,8}".prop_map(|time| format!("%START_TIME({time})%")),
        "(PROTOCOL|ROUTE_NAME|REQUESTED_SERVER_NAME|UPSTREAM_HOST|RESPONSE_CODE_DETAILS)"
            .prop_map(|op| format!("%{op}%")),
        "\\PC{0,4}",
        Just("%%".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_encoded_is_parsed_back(
        rows in proptest::collection::btree_map(proptest::collection::vec("\\PC{0,12}|[\"\\\\\n{},= ]{0,6}", 2), any::<u32>(), 0..12)
    ) {
        let registry = Registry::new(Limits::default());
        let table = registry.table(vec![Column::new("n_total", "Any \\ help\n.", Kind::Counter)], &[], Origin::Traffic);
        let shard = registry.shard();
        for (labels, count) in &rows {
            let row = registry.row(table, &[("first", labels[0].as_str()), ("second", labels[1].as_str())], "");
            shard.add(row.counter(0), u64::from(*count));
        }
        let mut text = Vec::new();
        prometheus(&registry, &Filter::default(), &mut text);
        let text = String::from_utf8(text).unwrap();
        let samples = scrape::parse(&text).unwrap();
        let read: std::collections::BTreeMap<Vec<String>, u32> = samples
            .iter()
            .filter(|sample| sample.name == "n_total")
            .map(|sample| (sample.labels.iter().map(|(_, value)| value.to_string()).collect(), sample.value as u32))
            .collect();
        prop_assert_eq!(read, rows);
    }

    #[test]
    fn any_format_compiles_or_is_refused(pieces in proptest::collection::vec(format_piece(), 0..8)) {
        fuzzing::fuzz_format(pieces.concat().as_bytes());
    }

    #[test]
    fn any_bytes_pass_through_a_format(value in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzzing::fuzz_value(&value);
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "([a-z_]{1,3}(\\{[a-z]?=?\"?[\\PC\\\\\n]{0,4}\"?,?\\}?)?[ \t]?[0-9.+einfN]{0,5}[ \n]?){0,6}") {
        fuzzing::fuzz_scrape(text.as_bytes());
    }

    #[test]
    fn quantiles_lie_between_the_bounds_and_grow(counts in proptest::collection::vec(0u32..1000, 2..20)) {
        let mut total = 0.0;
        let last = counts.len() - 1;
        let buckets: Vec<(f64, f64)> = counts.iter().enumerate().map(|(index, count)| {
            total += f64::from(*count);
            (if index == last { f64::INFINITY } else { index as f64 + 1.0 }, total)
        }).collect();
        let answers: Vec<f64> = (0..=20).filter_map(|step| scrape::quantile(&buckets, f64::from(step) / 20.0)).collect();
        prop_assert_eq!(answers.is_empty(), total == 0.0);
        prop_assert!(answers.is_sorted());
        prop_assert!(answers.iter().all(|answer| (0.0..=last as f64).contains(answer)));
    }
}
