use super::{assert_places, unit_at};

#[test]
fn events_before_and_behind_an_error_are_found() {
    super::check(
        r#"
x.to("cuda:1")
def broken(:
    pass
y.to("cuda:2")
"#,
        r#"
        choose "cuda:1" 1
        freeze .to()
        choose "cuda:2" 2
        freeze .to()
        "#,
    );
}

#[test]
fn what_an_error_hides_is_possible() {
    let text = "ok = 1\nos.environ[\"CUDA_VISIBLE_DEVICES\" = \"1\"  # CUDA_DEVICE_ORDER\n";
    let unit = unit_at("a.py", text);
    let found: Vec<_> = unit.possible.iter().map(|it| unit.source.slice(*it)).collect();
    assert_eq!(found, ["CUDA_VISIBLE_DEVICES"]);
    assert!(!unit.syntax_errors.is_empty());
}

#[test]
fn deep_nesting_ends_quietly() {
    let depth = 20_000;
    let texts = [
        format!("x = {}1{}\n", "(".repeat(depth), ")".repeat(depth)),
        format!("x = {}1\n", "-".repeat(depth)),
        format!("x = 1{}\n", " + 1".repeat(depth)),
        format!("x = a{}\n", ".b".repeat(depth)),
        format!("x = a{}\n", "()".repeat(depth)),
        format!("if a: pass\n{}", "elif a: pass\n".repeat(depth)),
        format!("if a.is_available(): pass\n{}", "elif a(): b()\n".repeat(depth)),
    ];
    // The scan's threads have stacks of this size.
    let read = move || {
        for text in texts {
            assert_places(&unit_at("a.py", &text));
        }
    };
    std::thread::Builder::new().stack_size(64 << 20).spawn(read).unwrap().join().unwrap();
}

#[test]
fn mangled_programs_keep_every_place_inside() {
    const TEXTS: [&str; 7] = [
        include_str!("calls.rs"),
        include_str!("checks.rs"),
        include_str!("children.rs"),
        include_str!("environment.rs"),
        include_str!("flow.rs"),
        include_str!("texts.rs"),
        include_str!("values.rs"),
    ];
    let programs =
        TEXTS.iter().flat_map(|it| it.split("r#\"")).filter_map(|it| it.split("\"#").next());
    for piece in programs {
        let ends: Vec<usize> = piece.char_indices().map(|it| it.0).collect();
        for (at, end) in ends.iter().enumerate().step_by(23) {
            assert_places(&unit_at("a.py", &piece[..*end]));
            let hole = ends.get(at + 4).copied().unwrap_or(piece.len());
            assert_places(&unit_at("a.py", &format!("{}é{}", &piece[..*end], &piece[hole..])));
        }
    }
}

#[test]
fn an_environment_copied_from_itself_ends() {
    let text = "import subprocess\ndef run(env):\n    env = dict(env)\n    subprocess.run([\"python\", \"a.py\"], env=env)\nkw = {**kw}\nsubprocess.run([\"python\", \"b.py\"], env=kw)\n";
    assert_places(&unit_at("a.py", text));
}
