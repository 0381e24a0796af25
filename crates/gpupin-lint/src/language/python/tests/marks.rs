use super::{dump, unit_at};

/// Compares the marks of an entry point.
#[track_caller]
fn check(path: &str, text: &str, expected: &str) {
    let unit = unit_at(path, text);
    let entry = &unit.entry;
    let marks = [
        ("main guard", entry.main_guard.is_some()),
        ("shebang", entry.shebang),
        ("tests", entry.tests),
        ("work", entry.top_level_work),
    ];
    let marks: Vec<_> = marks.iter().filter(|it| it.1).map(|it| it.0).collect();
    assert_eq!(marks.join(", "), expected, "in\n{text}");
    if let Some(guard) = entry.main_guard {
        assert!(unit.source.slice(guard).starts_with("if __name__"), "{}", dump(&unit));
    }
}

#[test]
fn programs_are_marked() {
    check("a.py", "if __name__ == '__main__':\n    main()\n", "main guard");
    check("a.py", "import x\nx.run()\n", "work");
    check("a.py", "#!/usr/bin/env python3\nimport x\nx.run()\n", "shebang, work");
    check("a.py", "#!/usr/bin/env python3\nX = 1\n", "");
    check("a.py", "model = load()\napp = App()\n", "");
    check("a.py", "import logging, sys\nlogging.basicConfig()\nsys.path.append('x')\n", "");
    check("a.py", "for x in y:\n    f(x)\n", "work");
}

#[test]
fn tests_are_marked_unless_they_only_touch_mocks() {
    check("test_a.py", "def test_x():\n    run()\n", "tests");
    check("a_test.py", "class TestX:\n    def test_y(self): run()\n", "tests");
    check(
        "test_a.py",
        "import unittest\nclass X(unittest.TestCase):\n    def test_y(self): run()\n",
        "tests",
    );
    check("test_a.py", "def helper(): run()\n", "");
    check("a.py", "def test_x():\n    run()\n", "");
    check("test_a.py", "@patch('torch.cuda')\ndef test_x(cuda):\n    run()\n", "");
    check("test_a.py", "def test_x(mock_torch):\n    run()\n", "");
}

#[test]
fn suppressions_cover_whole_statements() {
    let text = "\
x = load(
    'cuda:1',  # gpupin: ignore[GP201] two GPUs here
    1,
)
# gpupin: ignore[GP103, GP201]
y = load(
    2,
)
sql = '''
# gpupin: ignore[GP501] text
'''
z = 1  # gpupin: ignore
";
    let unit = unit_at("a.py", text);
    let found: Vec<_> = unit
        .suppressions
        .iter()
        .map(|it| {
            let codes: Vec<_> = it.codes.iter().map(|it| it.0.as_str()).collect();
            let covers = unit.source.slice(it.covers).split(['\n', '(']).next().unwrap();
            (codes.join(" "), it.reason.as_str(), covers)
        })
        .collect();
    assert_eq!(
        found,
        [
            ("GP201".to_owned(), "two GPUs here", "x = load"),
            ("GP103 GP201".to_owned(), "", "y = load"),
            (String::new(), "", "z = 1  # gpupin: ignore"),
            ("GP501".to_owned(), "text", "sql = '''"),
        ]
    );
}
