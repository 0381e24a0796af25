use crate::{
    document::{Key, Presence, Shape, Text, parses},
    identity::{ComputeCapability, PciAddress},
    policy::{OnMissing, OnOutsidePin, OnViolation, PinAs, PinStyle, RequirePinIn},
    selector::{NamePattern, UuidPrefix},
    value::{Bytes, InvalidValue, duration},
};

use Presence::{Default, Optional};

/// Every key of the policy except `profiles`, which may hold each of them again.
pub(super) const POLICY: &[Key] = &[
    Key {
        name: "gpu",
        shape: Shape::Table(&[SELECTOR, COUNT]),
        presence: Optional,
        example: r#"{ name = "RTX 3090", min-vram = "20 GiB" }"#,
        doc: "The GPU this project must run on, by what it is",
    },
    Key {
        name: "forbid",
        shape: Shape::List(&Shape::Table(&[SELECTOR])),
        presence: Default("[]"),
        example: r#"[{ name = "RTX 5060 Ti" }]"#,
        doc: "GPUs this project must never touch, even when the pinned one is busy",
    },
    Key {
        name: "pin",
        shape: Shape::Table(&[PIN]),
        presence: Default("{}"),
        example: r#"{ as = "index" }"#,
        doc: "How exactly the GPU of the policy is left visible",
    },
    Key {
        name: "env",
        shape: Shape::Map(&VARIABLE, &Shape::Text(&VARIABLE_VALUE)),
        presence: Default("{}"),
        example: r#"{ PYTORCH_CUDA_ALLOC_CONF = "max_split_size_mb:1024" }"#,
        doc: "Environment variables every process of the project also gets",
    },
    Key {
        name: "roles",
        shape: Shape::Map(&NAME, &Shape::Table(&[SELECTOR, COUNT, ROLE])),
        presence: Default("{}"),
        example: r#"{ tts = { name = "RTX 5060 Ti", entry-points = ["tts/server.py"] } }"#,
        doc: "Parts of the project that run on another GPU, exempt from `forbid`",
    },
    Key {
        name: "lint",
        shape: Shape::Table(&[LINT]),
        presence: Default("{}"),
        example: r#"{ select = ["strict"] }"#,
        doc: "What `gpupin scan` looks for, and how `gpupin fix` repairs it",
    },
    Key {
        name: "lease",
        shape: Shape::Table(&[LEASE]),
        presence: Default("{}"),
        example: "{ slots = 2 }",
        doc: "Who may use the GPU at the same time",
    },
    Key {
        name: "run",
        shape: Shape::Table(&[RUN]),
        presence: Default("{}"),
        example: r#"{ on-violation = "warn" }"#,
        doc: "What `gpupin run` does when something is not as declared",
    },
    Key {
        name: "verify",
        shape: Shape::Table(&[VERIFY]),
        presence: Default("{}"),
        example: r#"{ commands = ["python -m assistant --selftest"] }"#,
        doc: "What `gpupin verify` runs",
    },
    Key {
        name: "guard",
        shape: Shape::Table(&[GUARD]),
        presence: Default("{}"),
        example: r#"{ leak-threshold = "1 GiB" }"#,
        doc: "What the guard of the Python package calls a leak; `--profile` and `GPUPIN_PROFILE` choose among several",
    },
    Key {
        name: "alerts",
        shape: Shape::AnyTable,
        presence: Default("{}"),
        example: r#"{ email = "me@example.org" }"#,
        doc: "Alerts of `gpupin serve`; kept, and not interpreted by this version",
    },
];

/// The key that overrides the others.
pub(super) const PROFILES: &Key = &Key {
    name: "profiles",
    shape: Shape::Map(&NAME, &Shape::Table(&[POLICY])),
    presence: Default("{}"),
    example: r#"{ ci = { lint.select = ["strict"] } }"#,
    doc: "Named sets of keys that override those above when selected with `--profile`, or by `GPUPIN_PROFILE` \
          where a program is started or asks: tables merge, everything else is replaced",
};

const SELECTOR: &[Key] = &[
    Key {
        name: "name",
        shape: Shape::Text(&Text {
            what: "a product name such as \"RTX 3090\"",
            pattern: None,
            check: parses::<NamePattern>,
        }),
        presence: Optional,
        example: r#""RTX 3090""#,
        doc: "Product name; vendor words and case do not count, `*` and `?` are globs, \
              and without them the name is exact: `RTX 3090` is never an `RTX 3090 Ti`",
    },
    Key {
        name: "uuid",
        shape: Shape::Text(&Text {
            what: "a UUID or the beginning of one, such as \"GPU-8932f937\"",
            pattern: Some("^(GPU-|MIG-|MIG-GPU-)[0-9A-Fa-f][0-9A-Fa-f/-]*$"),
            check: parses::<UuidPrefix>,
        }),
        presence: Optional,
        example: r#""GPU-8932f937""#,
        doc: "UUID as `nvidia-smi -L` prints it, or enough of its beginning to be unique",
    },
    Key {
        name: "pci",
        shape: Shape::Text(&Text {
            what: "a PCI address such as \"0000:02:00.0\"",
            pattern: Some(r"^([0-9A-Fa-f]{1,8}:)?[0-9A-Fa-f]{1,2}:[01]?[0-9A-Fa-f]\.[0-7]$"),
            check: parses::<PciAddress>,
        }),
        presence: Optional,
        example: r#""0000:02:00.0""#,
        doc: "PCI address",
    },
    Key {
        name: "min-vram",
        shape: Shape::Text(&SIZE),
        presence: Optional,
        example: r#""20 GiB""#,
        doc: "Least VRAM as NVML reports it, which may be a little below the number on the box",
    },
    Key {
        name: "max-vram",
        shape: Shape::Text(&SIZE),
        presence: Optional,
        example: r#""24 GiB""#,
        doc: "Most VRAM",
    },
    Key {
        name: "min-compute-capability",
        shape: Shape::Text(&CAPABILITY),
        presence: Optional,
        example: r#""8.6""#,
        doc: "Lowest compute capability",
    },
    Key {
        name: "max-compute-capability",
        shape: Shape::Text(&CAPABILITY),
        presence: Optional,
        example: r#""9.0""#,
        doc: "Highest compute capability, for programs built without kernels for newer GPUs",
    },
];

const COUNT: &[Key] = &[Key {
    name: "count",
    shape: Shape::Number(1),
    presence: Default("1"),
    example: "2",
    doc: "How many GPUs",
}];

const ROLE: &[Key] = &[Key {
    name: "entry-points",
    shape: Shape::List(&Shape::Text(&PATH)),
    presence: Default("[]"),
    example: r#"["tts/server.py"]"#,
    doc: "Programs that play this role",
}];

const PIN: &[Key] = &[Key {
    name: "as",
    shape: Shape::Choice(PinAs::CHOICES),
    presence: Default(r#""uuid""#),
    example: r#""index""#,
    doc: "How the pin names the GPU",
}];

const LINT: &[Key] = &[
    Key {
        name: "select",
        shape: Shape::List(&Shape::Text(&RULE)),
        presence: Default(r#"["default"]"#),
        example: r#"["strict"]"#,
        doc: "Rules that count: `default`, `strict`, codes or names",
    },
    Key {
        name: "ignore",
        shape: Shape::List(&Shape::Text(&RULE)),
        presence: Default("[]"),
        example: r#"["GP204"]"#,
        doc: "Rules that do not count",
    },
    Key {
        name: "exclude",
        shape: Shape::List(&Shape::Text(&GLOB)),
        presence: Default("[]"),
        example: r#"["third_party/**"]"#,
        doc: "Files that are not scanned",
    },
    Key {
        name: "require-pin-in",
        shape: Shape::Choice(RequirePinIn::CHOICES),
        presence: Default(r#""entry-points""#),
        example: r#""every-gpu-file""#,
        doc: "Which files must carry a pin",
    },
    Key {
        name: "style",
        shape: Shape::Choice(PinStyle::CHOICES),
        presence: Default(r#""header""#),
        example: r#""import""#,
        doc: "How `gpupin fix` pins a program",
    },
    Key {
        name: "entry-points",
        shape: Shape::List(&Shape::Text(&PATH)),
        presence: Default("[]"),
        example: r#"["tools/convert.py"]"#,
        doc: "Entry points beside those that are found",
    },
    Key {
        name: "per-file-ignores",
        shape: Shape::Map(&GLOB, &Shape::List(&Shape::Text(&RULE))),
        presence: Default("{}"),
        example: r#"{ "tests/legacy/**" = ["GP204"] }"#,
        doc: "Rules that do not count in some files",
    },
];

const LEASE: &[Key] = &[
    Key {
        name: "timeout",
        shape: Shape::Text(&Text {
            what: "a time such as \"10min\"",
            pattern: Some(r"^[0-9]+(\.[0-9]+)? *(ms|s|min|h|d)$"),
            check: |text| duration(text).map(drop),
        }),
        presence: Default(r#""10min""#),
        example: r#""1h""#,
        doc: "How long to wait for the GPU, in `ms`, `s`, `min`, `h` or `d`",
    },
    Key {
        name: "slots",
        shape: Shape::Number(1),
        presence: Default("1"),
        example: "2",
        doc: "How many holders at once",
    },
];

const RUN: &[Key] = &[
    Key {
        name: "on-missing",
        shape: Shape::Choice(OnMissing::CHOICES),
        presence: Default(r#""error""#),
        example: r#""cpu""#,
        doc: "What to do on a machine without the GPU",
    },
    Key {
        name: "on-outside-pin",
        shape: Shape::Choice(OnOutsidePin::CHOICES),
        presence: Default(r#""error""#),
        example: r#""keep""#,
        doc: "What to do with another pin that a launcher has set already",
    },
    Key {
        name: "on-violation",
        shape: Shape::Choice(OnViolation::CHOICES),
        presence: Default(r#""kill""#),
        example: r#""warn""#,
        doc: "What to do with a program that touches another GPU",
    },
];

const VERIFY: &[Key] = &[Key {
    name: "commands",
    shape: Shape::List(&Shape::Text(&Text {
        what: "a command line",
        pattern: Some(r"\S"),
        check: |text| not_blank(text, "a command line"),
    })),
    presence: Default("[]"),
    example: r#"["python -m assistant --selftest"]"#,
    doc: "Command lines that exercise the project",
}];

const GUARD: &[Key] = &[Key {
    name: "leak-threshold",
    shape: Shape::Text(&SIZE),
    presence: Default(r#""100 MB""#),
    example: r#""1 GiB""#,
    doc: "How much memory may grow before it counts as a leak",
}];

const SIZE: Text = Text {
    what: "a size with its unit, such as \"20 GiB\"",
    pattern: Some(r"^[0-9]+(\.[0-9]+)? *(B|kB|KiB|MB|MiB|GB|GiB|TB|TiB)$"),
    check: parses::<Bytes>,
};

const CAPABILITY: Text = Text {
    what: "a compute capability in quotes, such as \"8.6\"",
    pattern: Some(r"^[0-9]+\.[0-9]+$"),
    check: parses::<ComputeCapability>,
};

const NAME: Text =
    Text { what: "a name", pattern: Some(r"\S"), check: |text| not_blank(text, "a name") };

const PATH: Text =
    Text { what: "a path", pattern: Some(r"\S"), check: |text| not_blank(text, "a path") };

const GLOB: Text =
    Text { what: "a glob", pattern: Some(r"\S"), check: |text| not_blank(text, "a glob") };

const RULE: Text = Text {
    what: "the code or name of a rule, \"default\" or \"strict\"",
    pattern: Some(r"\S"),
    check: |text| not_blank(text, "the code or name of a rule"),
};

const VARIABLE: Text =
    Text { what: "the name of an environment variable", pattern: None, check: variable };

const VARIABLE_VALUE: Text = Text {
    what: "a text",
    pattern: None,
    check: |text| {
        let nul = text.contains('\0');
        if nul { Err(InvalidValue::new("an environment cannot hold NUL")) } else { Ok(()) }
    },
};

fn not_blank(text: &str, what: &str) -> Result<(), InvalidValue> {
    if text.trim().is_empty() {
        return Err(InvalidValue::new(format!("expected {what}")));
    }
    Ok(())
}

fn variable(name: &str) -> Result<(), InvalidValue> {
    if name.is_empty() || name.contains(|c: char| c == '=' || c == '\0' || c.is_whitespace()) {
        return Err(InvalidValue::new("expected the name of an environment variable"));
    }
    // The policy never names a GPU by index, and never competes with its own pin.
    if ["CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"].contains(&name) {
        return Err(InvalidValue::new("the pin sets it, declare the GPU in `gpu`"));
    }
    if name == "CUDA_DEVICE_ORDER" {
        return Err(InvalidValue::new("the pin sets it, see `pin.as`"));
    }
    // What gpupin tells a program, and where it looks for the driver, is no project's to say.
    if name.starts_with("GPUPIN_") {
        return Err(InvalidValue::new("names that begin with `GPUPIN_` are gpupin's own"));
    }
    Ok(())
}
