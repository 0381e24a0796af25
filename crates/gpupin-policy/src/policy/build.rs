use std::{collections::BTreeMap, ops::Range};

use toml::de::DeValue;

use crate::{
    document::{
        Node, Raw, Table, Value,
        check::{self, Found, join},
    },
    policy::{
        GuardPolicy, LeasePolicy, LintPolicy, OnMissing, OnOutsidePin, OnViolation, Pin, PinAs,
        PinStyle, Policy, PolicyError, PolicyFile, RequirePinIn, Role, RunPolicy, VerifyPolicy,
        keys,
    },
    problem::{Problem, ProblemKind, nearest},
    selector::Selector,
    value::duration,
};

const PYPROJECT_PATH: [&str; 2] = ["tool", "gpupin"];

pub(super) fn parse(
    text: &str,
    origin: PolicyFile,
    profile: Option<&str>,
) -> Result<Option<Policy>, PolicyError> {
    let document = check::parse(text).map_err(PolicyError::Invalid)?;
    let (raw, path) = match origin {
        PolicyFile::Gpupin => (&document, String::new()),
        PolicyFile::Pyproject => match descend(&document, &PYPROJECT_PATH) {
            Some(raw) => (raw, PYPROJECT_PATH.join(".")),
            None => return Ok(None),
        },
    };

    let mut found = vec![];
    let groups = [keys::POLICY, std::slice::from_ref(keys::PROFILES)];
    let checked = check::table(raw, &groups, &path, &mut found);
    // Keys can only be compared once each of them is right by itself.
    if found.is_empty() {
        let mut base = checked.expect("a table without problems");
        let profiles = take_profiles(&mut base);
        check_together(&base, &path, &mut found);
        // One that is not chosen keeps nobody from the others.
        if let Some((name, node)) = profile.and_then(|it| profiles.get_key_value(it)) {
            let mut new = Vec::new();
            check_together(&overlaid(&base, node), "", &mut new);
            // A conflict of the base that a profile inherits is reported once.
            new.retain(|it| !found.iter().any(|old| old.0 == it.0));
            let own = join(&join(&path, keys::PROFILES.name), name);
            found.extend(new.into_iter().map(|it| {
                let in_file = |key: String| match if has(node, &key) { &own } else { &path } {
                    root if root.is_empty() => key,
                    table => format!("{table}.{key}"),
                };
                (it.0, of_profile(it.1, name, in_file))
            }));
        }
        if found.is_empty() {
            return select_profile(base, &profiles, profile).map(Some);
        }
    }
    found.sort_by_key(|(span, _)| span.start);
    let problem = |(span, kind): (Range<usize>, _)| Problem::new(text, span, kind);
    Err(PolicyError::Invalid(found.into_iter().map(problem).collect()))
}

pub(super) fn undeclared() -> Policy {
    build(Node { span: 0..0, value: Value::Table(Table::new()) }, vec![])
}

fn descend<'a, 'i>(raw: &'a Raw<'i>, path: &[&str]) -> Option<&'a Raw<'i>> {
    path.iter().try_fold(raw, |raw, name| match raw.get_ref() {
        DeValue::Table(entries) => {
            entries.iter().find(|(key, _)| key.get_ref() == name).map(|(_, raw)| raw)
        }
        _ => None,
    })
}

/// Whether a profile has a key that it shares with the rest of the policy.
fn has(profile: &Node, key: &str) -> bool {
    let mut node = profile;
    for part in key.split('.') {
        let name = part.split('[').next().unwrap_or(part).trim_matches('"');
        match &node.value {
            Value::Table(table) if table.contains_key(name) => node = &table[name],
            _ => return false,
        }
    }
    true
}

/// A problem of a profile laid over the rest, in which keys are called as they are in the file.
fn of_profile(kind: ProblemKind, profile: &str, in_file: impl Fn(String) -> String) -> ProblemKind {
    match kind {
        ProblemKind::Conflict { key, reason } => {
            let reason = format!("{reason}, with the profile `{profile}`");
            ProblemKind::Conflict { key: in_file(key), reason }
        }
        ProblemKind::ForbidsWanted { key, wanted } => {
            ProblemKind::ForbidsWanted { key: in_file(key), wanted: in_file(wanted) }
        }
        other => other,
    }
}

fn take_profiles(base: &mut Node) -> Table {
    let Value::Table(table) = &mut base.value else { unreachable!("the shape was checked") };
    table.remove(keys::PROFILES.name).map_or_else(Table::new, |node| node.table().clone())
}

fn overlaid(base: &Node, profile: &Node) -> Node {
    let mut merged = base.clone();
    merged.overlay(profile);
    merged
}

fn select_profile(
    base: Node,
    profiles: &Table,
    wanted: Option<&str>,
) -> Result<Policy, PolicyError> {
    let known: Vec<_> = profiles.keys().cloned().collect();
    let Some(wanted) = wanted else { return Ok(build(base, known)) };
    let Some(profile) = profiles.get(wanted) else {
        let suggestion = nearest(wanted, known.iter().map(String::as_str));
        return Err(PolicyError::UnknownProfile { profile: wanted.to_owned(), known, suggestion });
    };
    Ok(build(overlaid(&base, profile), known))
}

/// Finds values that do not fit together. Runs on merged keys, since a profile may complete a
/// table of the base.
fn check_together(policy: &Node, path: &str, found: &mut Vec<Found>) {
    let policy = policy.table();
    if let Some(gpu) = policy.get("gpu") {
        let key = join(path, "gpu");
        check_selector(gpu, &key, found);
        // With a count it says at least that any will do.
        if gpu.table().is_empty() {
            let reason =
                "says nothing about the GPU: add a condition such as `name = \"RTX 3090\"`"
                    .to_owned();
            found.push((gpu.span.clone(), ProblemKind::Conflict { key, reason }));
        }
    }
    // Roles are exempt from `forbid`.
    let wanted = policy.get("gpu").map(|it| selector(it.table()));
    for (index, node) in policy.get("forbid").map_or(&[][..], Node::list).iter().enumerate() {
        let key = format!("{}[{index}]", join(path, "forbid"));
        check_selector(node, &key, found);
        if selector(node.table()).is_unconditional() {
            let reason = "has no condition, so it forbids every GPU".to_owned();
            found.push((node.span.clone(), ProblemKind::Conflict { key, reason }));
        } else if wanted.as_ref().is_some_and(|it| it.is_within(&selector(node.table()))) {
            let wanted = join(path, "gpu");
            found.push((node.span.clone(), ProblemKind::ForbidsWanted { key, wanted }));
        }
    }
    for (name, node) in policy.get("roles").into_iter().flat_map(Node::table) {
        let key = join(&join(path, "roles"), name);
        check_selector(node, &key, found);
        if selector(node.table()).is_unconditional() {
            let reason = "has no condition that says which GPU it means".to_owned();
            found.push((node.span.clone(), ProblemKind::Conflict { key, reason }));
        }
    }
}

fn check_selector(node: &Node, path: &str, found: &mut Vec<Found>) {
    let Selector { min_vram, max_vram, min_compute_capability, max_compute_capability, .. } =
        selector(node.table());
    for (name, impossible) in [
        ("vram", max_vram.is_some_and(|max| min_vram > Some(max))),
        (
            "compute-capability",
            max_compute_capability.is_some_and(|max| min_compute_capability > Some(max)),
        ),
    ] {
        if impossible {
            let at = &node.table()[&format!("min-{name}")];
            let key = join(path, &format!("min-{name}"));
            let reason = format!("is higher than `max-{name}`, so no GPU matches");
            found.push((at.span.clone(), ProblemKind::Conflict { key, reason }));
        }
    }
}

fn build(mut merged: Node, profiles: Vec<String>) -> Policy {
    merged.fill(&[keys::POLICY]);
    let policy = merged.table();
    let section = |name: &str| policy[name].table();
    let role = |node: &Node| Role {
        selector: selector(node.table()),
        entry_points: node.table()["entry-points"].texts(),
    };
    let (lint, run) = (section("lint"), section("run"));
    Policy {
        gpu: policy.get("gpu").map(|node| selector(node.table())),
        forbid: policy["forbid"].list().iter().map(|node| selector(node.table())).collect(),
        pin: Pin { as_: PinAs::from_text(section("pin")["as"].text()) },
        env: map(section("env"), |node| node.text().to_owned()),
        roles: map(section("roles"), role),
        lint: LintPolicy {
            select: lint["select"].texts(),
            ignore: lint["ignore"].texts(),
            exclude: lint["exclude"].texts(),
            require_pin_in: RequirePinIn::from_text(lint["require-pin-in"].text()),
            style: PinStyle::from_text(lint["style"].text()),
            entry_points: lint["entry-points"].texts(),
            per_file_ignores: map(lint["per-file-ignores"].table(), Node::texts)
                .into_iter()
                .collect(),
        },
        lease: LeasePolicy {
            timeout: duration(section("lease")["timeout"].text()).expect("the time was checked"),
            slots: section("lease")["slots"].number(),
        },
        run: RunPolicy {
            on_missing: OnMissing::from_text(run["on-missing"].text()),
            on_outside_pin: OnOutsidePin::from_text(run["on-outside-pin"].text()),
            on_violation: OnViolation::from_text(run["on-violation"].text()),
        },
        verify: VerifyPolicy { commands: section("verify")["commands"].texts() },
        guard: GuardPolicy { leak_threshold: section("guard")["leak-threshold"].parsed() },
        alerts: map(section("alerts"), Node::any).into_iter().collect(),
        profiles,
    }
}

fn selector(table: &Table) -> Selector {
    Selector {
        name: table.get("name").map(Node::parsed),
        uuid: table.get("uuid").map(Node::parsed),
        pci: table.get("pci").map(Node::parsed),
        min_vram: table.get("min-vram").map(Node::parsed),
        max_vram: table.get("max-vram").map(Node::parsed),
        min_compute_capability: table.get("min-compute-capability").map(Node::parsed),
        max_compute_capability: table.get("max-compute-capability").map(Node::parsed),
        count: table.get("count").map_or(Selector::default().count, Node::number),
    }
}

fn map<T>(table: &Table, convert: impl Fn(&Node) -> T) -> BTreeMap<String, T> {
    table.iter().map(|(key, node)| (key.clone(), convert(node))).collect()
}
