//! What is kept of a step's output.

use base64::Engine as _;
use proptest::prelude::*;

use crate::evidence::output::mask_text;
use crate::evidence::{Collector, Output};

const SECRET: &str = "p/ss w\"rd+9";

fn collect(bytes: &[u8], limit: usize, piece: usize, secrets: &[&str]) -> Output {
    let mut collector = Collector::new(limit);
    for part in bytes.chunks(piece.max(1)) {
        collector.push(part);
    }
    let secrets: Vec<String> = secrets.iter().map(|&s| s.to_owned()).collect();
    collector.finish(&secrets)
}

#[test]
fn short_output_is_kept_as_it_is() {
    let output = collect(b"one\ntwo\n", 100, 3, &[]);
    assert_eq!((output.text.as_str(), output.bytes, output.omitted), ("one\ntwo\n", 8, 0));
    assert_eq!(output.sha256.unwrap(), hex::encode(crate::base::id::sha256(b"one\ntwo\n")));
    assert_eq!(collect(b"a\nb\nc\n", 100, 9, &[]).last_lines(2), "b\nc");
}

#[test]
fn of_long_output_the_beginning_and_the_end_are_kept() {
    let text: String = (0..100_000).map(|n| format!("{n}\n")).collect();
    let output = collect(text.as_bytes(), 1000, 4097, &[]);
    assert!(output.text.starts_with("0\n1\n") && output.text.ends_with("99998\n99999\n"));
    assert!(output.text.contains(&format!("[{} bytes left out]", output.omitted)));
    assert_eq!((output.bytes, output.omitted), (text.len() as u64, text.len() as u64 - 1000));
}

#[test]
fn a_secret_is_masked_in_every_form() {
    let base64 = base64::engine::general_purpose::STANDARD.encode(SECRET);
    let forms = [SECRET.to_owned(), "p%2Fss%20w%22rd%2B9".to_owned(), base64, "p/ss w\\\"rd+9".to_owned()];
    for form in forms {
        let output = collect(format!("x{form}y").as_bytes(), 1000, 7, &[SECRET]);
        assert_eq!(
            (output.text.as_str(), output.masked, output.sha256),
            ("x[masked]y", true, None),
            "{form}"
        );
    }
    let key = "-----BEGIN-----\nAAAABBBBCCCC\nDDDD\n-----END-----\n";
    assert_eq!(mask_text("say AAAABBBBCCCC", &[key.to_owned()]), "say [masked]");
    // what is so short is no secret
    assert_eq!(mask_text("a 1 b", &["1".to_owned()]), "a 1 b");
    assert_eq!(mask_text("aaaaaaa", &["aaaa".to_owned()]), "[masked]");
    assert_eq!(mask_text("to s3://u:hunter2@host/x", &[]), "to s3://u:[masked]@host/x");
}

proptest! {
    #[test]
    fn no_part_of_a_secret_is_left_wherever_it_is_cut(
        before in 0usize..80, after in 0usize..80, limit in 0usize..60, piece in 1usize..20,
    ) {
        let secret = "Zq7KxWvB3T";
        let text = format!("{}{secret}{}", ".".repeat(before), ".".repeat(after));
        let output = collect(text.as_bytes(), limit, piece, &[secret]);
        // not even one of its characters, which stand nowhere else
        let rest = output.text.replace("[masked]", "").replace("bytes left out", "");
        prop_assert!(!rest.chars().any(|c| c.is_ascii_alphabetic()), "{}", output.text);
        prop_assert!(output.text.len() <= limit + 120);
    }

    #[test]
    fn any_bytes_in_any_pieces_give_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..300), limit in 0usize..200, piece in 1usize..50) {
        let output = collect(&bytes, limit, piece, &[]);
        prop_assert_eq!(&output, &collect(&bytes, limit, bytes.len().max(1), &[]));
        prop_assert_eq!(output.omitted, (bytes.len().saturating_sub(limit)) as u64);
    }
}
