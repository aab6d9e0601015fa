//! Patterns in the syntax of gitignore, read alike wherever one is given.

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Begins a set of patterns. The builder cuts `root` off the front of paths; only for `.` does it leave those alone that
/// are relative already and could begin with the same names.
pub fn begin(root: &str) -> GitignoreBuilder {
    let mut builder = GitignoreBuilder::new(root);
    // a bracket that is not closed is a slip, which must not end as a pattern that matches nothing
    builder.allow_unclosed_class(false);
    builder
}

/// Adds one.
///
/// # Errors
/// What is wrong with it.
pub fn add(builder: &mut GitignoreBuilder, pattern: &str) -> Result<(), String> {
    if let Some(class) = named_class(pattern) {
        return Err(format!(
            "classes with a name, such as [{class}], are not known; write a range, such as [a-z]"
        ));
    }
    builder.add_line(None, pattern).map(|_| ()).map_err(why)
}

/// Ends a set of patterns.
///
/// # Errors
/// If they are too much together.
pub fn end(builder: &GitignoreBuilder) -> Result<Gitignore, String> {
    builder.build().map_err(why)
}

fn why(error: ignore::Error) -> String {
    match error {
        ignore::Error::Glob { err, .. } => err,
        other => other.to_string(),
    }
}

// What git reads as a class (`[[:alpha:]]`), the library reads as the letters themselves.
fn named_class(pattern: &str) -> Option<&str> {
    let (mut at, mut in_brackets) = (0, false);
    while let Some(&byte) = pattern.as_bytes().get(at) {
        match byte {
            b'\\' => at += 1,
            b'[' if !in_brackets => {
                in_brackets = true;
                // a bracket at the front is one of the characters
                let rest = &pattern[at + 1..];
                let rest = rest.strip_prefix(['!', '^']).unwrap_or(rest);
                at = pattern.len() - rest.len() - usize::from(!rest.starts_with(']'));
            }
            b'[' => {
                let rest = &pattern[at + 1..];
                let name =
                    rest.strip_prefix(':').and_then(|rest| rest.split_once(":]")).map(|(name, _)| name);
                if let Some(name) = name.filter(|name| name.bytes().all(|b| b.is_ascii_alphabetic())) {
                    return Some(&rest[..name.len() + 2]);
                }
            }
            b']' => in_brackets = false,
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_with_a_name_is_refused_and_nothing_else() {
        for (pattern, class) in [
            ("[[:alpha:]]*", ":alpha:"),
            ("x[!a[:digit:]]", ":digit:"),
            ("[][:space:]]", ":space:"),
            ("\\[[[:upper:]]", ":upper:"),
        ] {
            let refused = add(&mut begin("."), pattern).unwrap_err();
            assert!(refused.contains(&format!("[{class}]")), "{refused}");
        }
        for pattern in [
            "[:alpha:]",
            "\\[[:a:]",
            "[a-z]",
            "[[]x",
            "[[:]",
            "[[:a]",
            "[!]]:x:]",
            "[!!][:alpha:]",
            "é[ü]",
            "\\",
        ] {
            assert_eq!(named_class(pattern), None, "{pattern}");
        }
        assert!(add(&mut begin("."), "a[b").is_err());
    }
}
