use super::{unit_at, value};
use crate::unit::Does;

/// Compares the value of `X` that `text` sets.
#[track_caller]
fn check(text: &str, expected: &str) {
    let unit = unit_at("app/main.py", &format!("import os\n{text}"));
    let values: Vec<_> = unit
        .events
        .iter()
        .filter_map(|it| match &it.does {
            Does::SetVariable(it) if it.name == "X" => Some(value(&it.value.value)),
            _ => None,
        })
        .collect();
    assert_eq!(values.join("; "), expected, "in\n{text}");
}

#[test]
fn literals_and_names_assigned_once_are_known() {
    check("os.environ['X'] = '1'", r#""1""#);
    check("GPU = 1\nos.environ['X'] = str(GPU)", r#""1""#);
    check("GPU = '1'\nMASK = GPU\nos.environ['X'] = MASK", r#""1""#);
    check("GPU = 1\nGPU = 2\nos.environ['X'] = str(GPU)", "?");
    check("GPU = 1\nGPU += 2\nos.environ['X'] = str(GPU)", "?");
    check("for GPU in [1]:\n    os.environ['X'] = str(GPU)", "?");
    check("def f():\n    global GPU\n    GPU = 2\nGPU = 1\nos.environ['X'] = str(GPU)", "?");
    check("def f():\n    gpu = 1\n    os.environ['X'] = str(gpu)", r#""1""#);
    check("A, B = 1, 2\nos.environ['X'] = str(B)", r#""2""#);
}

#[test]
fn texts_are_put_together() {
    check("G = 1\nos.environ['X'] = f'{G}'", r#""1""#);
    check("G = 1\nos.environ['X'] = f'{G},{G + 1}'", r#""1,2""#);
    check("os.environ['X'] = '0' + ',' + '1'", r#""0,1""#);
    check("os.environ['X'] = '%d,%s' % (0, '1')", r#""0,1""#);
    check("os.environ['X'] = '{},{b}'.format(0, b=1)", r#""0,1""#);
    check("os.environ['X'] = ','.join(map(str, [0, 1]))", r#""0,1""#);
    check("os.environ['X'] = ','.join(str(i) for i in (0, 1))", r#""0,1""#);
    check("os.environ['X'] = ','.join(str(i) for i in range(2))", r#""0,1""#);
    check("IDS = ['0', '1']\nos.environ['X'] = ','.join(IDS)", r#""0,1""#);
    check("os.environ['X'] = ' 1 '.strip()", r#""1""#);
    check("os.environ['X'] = f'{pick()},1'", r#"(? + ",1")"#);
    check("os.environ['X'] = '0' '1'", r#""01""#);
}

#[test]
fn what_a_function_only_returns_is_known() {
    check("def pick():\n    return 1\nos.environ['X'] = str(pick())", r#""1""#);
    check("def pick():\n    'The second.'\n    return '1'\nos.environ['X'] = pick()", r#""1""#);
    check("GPU = 1\ndef pick():\n    return GPU\nos.environ['X'] = str(pick())", r#""1""#);
    for unknown in [
        "def pick(gpu=1):\n    return gpu",
        "def pick():\n    if busy():\n        return 0\n    return 1",
        "def pick():\n    return pick()",
        "def pick():\n    return 1\npick = other",
        "@cached\ndef pick():\n    return 1",
        "async def pick():\n    return 1",
    ] {
        check(&format!("{unknown}\nos.environ['X'] = str(pick())"), "?");
    }
}

#[test]
fn attributes_dictionaries_and_enums_are_known() {
    check("class C:\n    gpu = 1\nos.environ['X'] = str(C.gpu)", r#""1""#);
    check("CFG = {'gpu': {'id': 1}}\nos.environ['X'] = str(CFG['gpu']['id'])", r#""1""#);
    check("CFG = {'gpu': 1}\nos.environ['X'] = str(CFG.get('gpu'))", r#""1""#);
    check("IDS = [3, 4]\nos.environ['X'] = str(IDS[1])", r#""4""#);
    check(
        "from enum import Enum\nclass G(Enum):\n    MAIN = 1\nos.environ['X'] = str(G.MAIN.value)",
        r#""1""#,
    );
    check(
        "from dataclasses import dataclass, field\n@dataclass\nclass C:\n    gpu: int = field(default=1)\nc = C()\nos.environ['X'] = str(c.gpu)",
        r#""1""#,
    );
    check(
        "@dataclass\nclass C:\n    gpu: int = 0\nc = C(gpu=1)\nos.environ['X'] = str(c.gpu)",
        r#""1""#,
    );
    check(
        "class C:\n    def __init__(self, gpu=1):\n        self.gpu = gpu\n    def pin(self):\n        os.environ['X'] = str(self.gpu)",
        r#""1" by default"#,
    );
}

#[test]
fn what_the_user_may_say_counts_by_default() {
    check("os.environ['X'] = os.getenv('GPU', '0')", r#""0" by default"#);
    check("os.environ['X'] = os.environ.get('GPU', '0')", r#""0" by default"#);
    check("os.environ['X'] = os.environ.get('GPU') or '0'", r#""0" by default"#);
    check("os.environ['X'] = os.environ['GPU']", "$GPU");
    check("os.environ['X'] = os.getenv('GPU')", "$GPU");
    check("def f(gpu=1):\n    os.environ['X'] = str(gpu)", r#""1" by default"#);
    check("def f(gpu):\n    os.environ['X'] = str(gpu)", "?");
    check("G = int(os.getenv('GPU', '0'))\nos.environ['X'] = str(G)", r#""0" by default"#);
}

#[test]
fn options_have_defaults() {
    let argparse = "import argparse\np = argparse.ArgumentParser()\np.add_argument('-g', '--gpu-id', type=int, default=1)\nargs = p.parse_args()\n";
    check(&format!("{argparse}os.environ['X'] = str(args.gpu_id)"), r#""1" by default"#);
    check(
        &format!("{argparse}def f(args):\n    os.environ['X'] = str(args.gpu_id)"),
        r#""1" by default"#,
    );
    check(
        "import click\n@click.command()\n@click.option('--gpu', default=1)\ndef f(gpu):\n    os.environ['X'] = str(gpu)",
        r#""1" by default"#,
    );
    check(
        "import typer\ndef f(gpu: int = typer.Option(1, help='which')):\n    os.environ['X'] = str(gpu)",
        r#""1" by default"#,
    );
    check(
        "from absl import flags\nflags.DEFINE_integer('gpu', 1, 'which')\nFLAGS = flags.FLAGS\nos.environ['X'] = str(FLAGS.gpu)",
        r#""1" by default"#,
    );
    check(
        "from pydantic import BaseModel, Field\nclass S(BaseModel):\n    gpu: int = Field(1)\ns = S()\nos.environ['X'] = str(s.gpu)",
        r#""1""#,
    );
}

#[test]
fn a_condition_leaves_several_values() {
    check("os.environ['X'] = '0' if small else '1'", r#"one of "0", "1""#);
}

#[test]
fn names_of_other_modules_stay_names() {
    check("import config\nos.environ['X'] = str(config.GPU)", "(config.GPU)");
    check("import config\nos.environ['X'] = f'{config.GPU}'", "(config.GPU)");
    check("import config\nos.environ['X'] = int(str(config.GPU))", "config.GPU");
    check("from config import GPU\nos.environ['X'] = GPU", "config.GPU");
    check(
        "from .config import settings\nos.environ['X'] = settings.gpu",
        "app/:config.settings.gpu",
    );
    check("from config import CFG\nos.environ['X'] = CFG['gpu']", "config.CFG.gpu");
    check("from config import *\nos.environ['X'] = GPU", "here:GPU");
}

#[test]
fn an_index_of_nvml_is_told_from_an_ordinal() {
    check("import GPUtil\nids = GPUtil.getAvailable()\nos.environ['X'] = str(ids[0])", "nvml");
    check("import GPUtil\nos.environ['X'] = str(GPUtil.getFirstAvailable()[0])", "nvml");
    check("import GPUtil\nos.environ['X'] = str(GPUtil.getGPUs()[0].id)", "nvml");
    check("import GPUtil\nfor gpu in GPUtil.getGPUs():\n    os.environ['X'] = str(gpu.id)", "nvml");
    check(
        "import pynvml\nfor i in range(pynvml.nvmlDeviceGetCount()):\n    os.environ['X'] = str(i)",
        "nvml",
    );
    check(
        "import subprocess\ndef pick_gpu():\n    out = subprocess.check_output(['nvidia-smi'])\n    return out\nos.environ['X'] = str(pick_gpu())",
        "nvml",
    );
}

#[test]
fn endless_definitions_end() {
    check("A = B\nB = A\nos.environ['X'] = A", "?");
    check("class C:\n    a = C.a\nos.environ['X'] = C.a", "?");
}
