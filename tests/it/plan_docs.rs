//! `docs/plan.md` and the JSON Schema, made from the types that read a plan.

use std::fmt::Write as _;

use serde_json::Value;

use crate::docs::check;

const HEAD: &str = "# The plan, `lifeboat.toml`

The tables are made from `src/plan/types.rs` by `UPDATE=1 cargo test --test it docs`; do not edit.

A plan lies next to the application, where Lifeboat finds it from any directory below, or is named by `-c FILE`.
Its paths lead from its own directory. `lifeboat validate` checks it, `lifeboat show-config` shows every value and
where it comes from, `lifeboat init --plan DIRECTORY` writes a first one. A flag goes before a variable of the
environment, and that before the plan. An unknown key, a wrong value and a name that leads nowhere are errors
(exit status 2) with file, line and column. For editors there is a [JSON Schema](schema/plan.schema.json).

* A *duration* is written `30s`, `15m`, `1h 30m`; a *size* `512`, `10M`, `1.5GiB` (a bare letter or `iB` counts by
  1024, `MB` by 1000); an *amount* is a share such as `20%`, or a size.
* A *command* that is a list is run as it stands; a string is run by `sh -c`.
";

fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        return root.pointer(name.trim_start_matches('#')).unwrap();
    }
    let other = |key: &str| schema.get(key)?.as_array()?.iter().find(|one| one["type"] != "null");
    match other("anyOf") {
        Some(one) if schema["anyOf"].as_array().unwrap().iter().any(|one| one["type"] == "null") => {
            resolve(root, one)
        }
        _ => schema,
    }
}

fn type_of(root: &Value, schema: &Value) -> String {
    let name = schema
        .get("$ref")
        .or_else(|| schema.pointer("/anyOf/0/$ref"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    for (end, word) in [("/Step", "step"), ("/Check", "check"), ("/Expected", "value or condition")] {
        if name.ends_with(end) {
            return word.to_owned();
        }
    }
    let schema = resolve(root, schema);
    if let Some(format) = schema["format"].as_str().filter(|format| format.contains(' ')) {
        return match format.split(' ').next().unwrap() {
            "duration" => "duration",
            "size" => "size",
            "share" => "amount",
            _ => "process",
        }
        .to_owned();
    }
    if let Some(words) =
        schema["oneOf"].as_array().filter(|list| list.iter().all(|one| one["const"].is_string()))
    {
        return words
            .iter()
            .map(|one| format!("`\"{}\"`", one["const"].as_str().unwrap()))
            .collect::<Vec<_>>()
            .join(", ");
    }
    if let Some(list) = schema["anyOf"].as_array() {
        let first = &list[0];
        if first["minLength"].is_number() {
            return "command".to_owned();
        }
        let types: Vec<String> = list.iter().map(|one| type_of(root, one)).collect();
        return types.join(" or ");
    }
    let word = match &schema["type"] {
        Value::String(word) => word.as_str(),
        Value::Array(words) => {
            words.iter().filter_map(Value::as_str).find(|word| *word != "null").unwrap_or("any")
        }
        _ => "any value",
    };
    match word {
        "array" => format!("list of {}", type_of(root, &schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("table of {}", type_of(root, &schema["additionalProperties"]))
        }
        "object" => "table".to_owned(),
        other => other.to_owned(),
    }
}

fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

fn rows(page: &mut String, root: &Value, schema: &Value, skip: &[&str]) {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    page.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
    for (key, one) in schema["properties"].as_object().unwrap() {
        if skip.contains(&key.as_str()) {
            continue;
        }
        let default = match &one["default"] {
            _ if required.contains(&key.as_str()) => "(required)".to_owned(),
            Value::Null => "-".to_owned(),
            Value::Object(_) => "-".to_owned(),
            other => format!("`{other}`"),
        };
        let about = one["description"].as_str().unwrap_or_default();
        writeln!(page, "| `{key}` | {} | {} | {} |", type_of(root, one), cell(&default), cell(about))
            .unwrap();
    }
}

fn section(page: &mut String, root: &Value, title: &str, schema: &Value) {
    let about = schema["description"].as_str().unwrap_or_default();
    writeln!(page, "\n## `{title}`\n\n{about}.\n").unwrap();
    rows(page, root, schema, &[]);
    let inner = title.trim_matches(['[', ']']);
    for (key, one) in schema["properties"].as_object().unwrap() {
        let one = resolve(root, one);
        if one["type"] == "object" && one["properties"].is_object() {
            section(page, root, &format!("[{inner}.{key}]"), one);
        }
    }
}

#[test]
fn every_key_of_a_plan_is_in_plan_md() {
    let root = lifeboat::plan::schema();
    let mut page = String::from(HEAD);
    for (key, one) in root["properties"].as_object().unwrap() {
        let schema = resolve(&root, one);
        match schema["type"].as_str() {
            Some("array") if key == "check" => {
                writeln!(page, "\n## `[[check]]`\n\nHow one sees that it works; see [checks.md](checks.md).")
                    .unwrap();
            }
            Some("array") => {
                section(&mut page, &root, &format!("[[{key}]]"), resolve(&root, &schema["items"]))
            }
            _ if schema["additionalProperties"].is_object() => {
                section(
                    &mut page,
                    &root,
                    &format!("[{key}.NAME]"),
                    resolve(&root, &schema["additionalProperties"]),
                );
            }
            _ => section(&mut page, &root, &format!("[{key}]"), schema),
        }
    }
    page.push_str(
        "\n## Steps\n\nA step of a runbook is a string: one of Lifeboat's operations with its arguments\n\
         (`\"verify --budget 10m\"`, `\"check NAME\"`, `\"run NAME\"`), a command after a `$` (`\"$ df -h .\"`), or a question\n\
         to people (`\"manual: are there new alerts?\"`). Where more is to be said it is a table:\n\n",
    );
    rows(&mut page, &root, &root["$defs"]["Step"]["anyOf"][1], &[]);
    page.push_str("\n## A plan with every section\n\n```toml\n");
    page.push_str(include_str!("../../src/plan/whole.toml"));
    page.push_str("```\n");
    check("plan.md", &page);
}

#[test]
fn the_schema_of_a_plan_is_published() {
    let text = serde_json::to_string_pretty(&lifeboat::plan::schema()).unwrap();
    check("schema/plan.schema.json", &(text + "\n"));
}

#[test]
fn every_key_of_a_check_is_in_checks_md() {
    let root = lifeboat::plan::schema();
    let mut page = String::from(
        "# Checks\n\nThe tables are made from `src/check/config.rs` by `UPDATE=1 cargo test --test it docs`; the examples from\n\
         `tests/it/checks.rs`, which runs them; times and amounts are evened out. Do not edit.\n\n\
         A check asks one small question about the running application, the host or a restored copy. The key that names\n\
         what is looked at is its kind. Its verdict is **pass**, **fail** (what was looked at is wrong) or **error** (it\n\
         could not be judged). `lifeboat health` runs the checks of the plan; drills, hotfixes and runbooks use the same.\n\
         What was seen is kept up to 4 KiB.\n\n## Keys of every check\n\n",
    );
    let kinds = root["$defs"]["Check"]["anyOf"].as_array().unwrap();
    let common = lifeboat::check::config::COMMON_KEYS;
    let all: serde_json::Map<String, Value> = kinds[0]["properties"].as_object().unwrap().clone();
    let mut shared = serde_json::json!({"properties": {}, "required": ["name"]});
    for key in common {
        shared["properties"][*key] = all[*key].clone();
    }
    rows(&mut page, &root, &shared, &[]);
    for (schema, word) in kinds.iter().zip(lifeboat::check::KINDS) {
        writeln!(page, "\n## `{word}`\n\n{}.\n", schema["description"].as_str().unwrap()).unwrap();
        rows(&mut page, &root, schema, common);
        if *word == "http" {
            page.push_str("\nIn `expect`:\n\n");
            rows(&mut page, &root, &root["$defs"]["HttpExpect"], &[]);
            page.push_str("\nRedirects are not followed: a 302 is judged as it is. No proxy is used for a loopback address.\n");
            page.push_str("\nA condition is the value itself, or a table:\n\n");
            rows(&mut page, &root, &root["$defs"]["Condition"], &[]);
        }
        page.push_str(&crate::checks::example(word));
    }
    check("checks.md", &page);
}
