use gpupin_policy::PinStyle;

use crate::{
    finding::{Finding, Severity},
    meant::Meant,
    needle::Needle,
    project::Project,
    rules::{Check, Rule},
    unit::{Does, Event, Unit, UnitId},
};

pub(super) const RULE: Rule = Rule {
    code: "GP203",
    name: "spreads-over-gpus",
    severity: Severity::Warning,
    default: false,
    docs: include_str!("spreads_over_gpus.md"),
    needles: &[
        Needle::new("DataParallel"),
        Needle::new("data_parallel"),
        Needle::new("parallel_size"),
        Needle::new("parallel-size"),
        Needle::new("tensor_parallel"),
        Needle::new("tensor_split"),
        Needle::before("device_map=", "\"'"),
        Needle::before("device_map = ", "\"'"),
        Needle::before("devices=", "-\"'23456789_abcdefghijklmnopqrstuvwxyz"),
        Needle::before("gpus=", "-\"'23456789_abcdefghijklmnopqrstuvwxyz"),
        Needle::before("strategy=", "\"'"),
        Needle::before("tp=", "23456789"),
        Needle::before("ngpu=", "23456789"),
        Needle::before("num_processes=", "23456789"),
        Needle::before("n_workers=", "23456789"),
        Needle::new("_size="),
        Needle::new("MirroredStrategy"),
        Needle::new("all_gpus"),
        Needle::new("gpus_list"),
        Needle::new("gpu_multiple"),
        Needle::new("multi_gpu"),
        Needle::new("multi_process"),
        Needle::new("pmap"),
    ],
    check: Check::Unit(check),
};

fn check(
    rule: &'static Rule,
    project: &Project<'_>,
    id: UnitId,
    unit: &Unit,
    found: &mut Vec<Finding>,
) {
    for event in &unit.events {
        let Does::Spread(spread) = &event.does else { continue };
        let meant = Meant::of(project, id);
        if spread.count.is_some_and(|it| it <= meant.count()) {
            continue;
        }
        if spread.tested_with_more_than.is_some_and(|it| it >= meant.count()) {
            continue;
        }
        let Some(programs) = unpinned_programs(project, id, unit) else { continue };
        let over = match spread.count {
            Some(count) => format!("over {count} GPUs"),
            None => "over every GPU it sees".to_owned(),
        };
        let message = format!("`{}` spreads work {over}, and no pin is in effect", spread.by);
        let mut finding = rule.finding(id, event.span, message);
        finding.programs = programs;
        found.push(finding);
    }
}

/// The programs a file is part of that have no pin; `None` if each has one. Empty for a file that is part
/// of no program and has no pin itself.
fn unpinned_programs(project: &Project<'_>, id: UnitId, unit: &Unit) -> Option<Vec<UnitId>> {
    if project.policy.lint.style == PinStyle::External {
        return None;
    }
    let programs: Vec<_> = project.programs.iter().filter(|it| it.runs(id)).collect();
    if programs.is_empty() {
        return (!unit.events.iter().any(is_pin)).then(Vec::new);
    }
    let unpinned: Vec<_> =
        programs.iter().filter(|it| !it.has_pin(project)).map(|it| it.entry).collect();
    (!unpinned.is_empty()).then_some(unpinned)
}

fn is_pin(event: &Event) -> bool {
    match &event.does {
        Does::SetVariable(set) => set.name == "CUDA_VISIBLE_DEVICES",
        Does::Gpupin => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::check;

    #[test]
    fn a_test_that_is_always_skipped_spreads_nothing() {
        check(
            r#"
import unittest, pytest, torch
@pytest.mark.skip(reason="broken")
def test_x():
    torch.nn.DataParallel(model)
@unittest.skip("broken")
class TestY(unittest.TestCase):
    def test_y(self):
        torch.nn.DataParallel(model)
"#,
        );
    }

    #[test]
    fn spreading_without_a_pin_is_reported() {
        check(
            r#"
import torch
from transformers import AutoModel
model = torch.nn.DataParallel(net)  # error: GP203
model = AutoModel.from_pretrained("a", device_map="auto")  # error: GP203
"#,
        );
    }

    #[test]
    fn work_on_gpus_named_one_by_one_is_no_spread() {
        check(
            r#"
import torch
from transformers import AutoModel
one = torch.nn.DataParallel(net, device_ids=[0])
some = torch.nn.DataParallel(net, device_ids=gpus)
given = torch.nn.parallel.data_parallel(net, (), range(args.ngpu))
device = torch.nn.DataParallel(net, device_ids=[accelerator.device.index])
default = torch.nn.DataParallel(net, device_ids=None)  # error: GP203
count = torch.cuda.device_count()
every = torch.nn.DataParallel(net, device_ids=list(range(count)))  # error: GP203
each = torch.nn.DataParallel(net, device_ids=[i for i in range(count)])  # error: GP203
a = AutoModel.from_pretrained("a", device_map="auto", max_memory={0: "10GiB", "cpu": "30GiB"})
limits = {0: small, "cpu": small}
b = AutoModel.from_pretrained("a", device_map="auto", max_memory=limits)
limits = {0: large, "cpu": large}
c = AutoModel.from_pretrained("a", device_map="auto", max_memory=limits)
free = {i: "10GiB" for i in range(torch.cuda.device_count())}
d = AutoModel.from_pretrained("a", device_map="auto", max_memory=free)  # error: GP203
e = AutoModel.from_pretrained("a", device_map="auto", max_memory=None)  # error: GP203
"#,
        );
    }

    #[test]
    fn a_call_that_is_given_its_devices_spreads_over_these() {
        check(
            r#"
import faiss
import jax
import tensorflow as tf
a = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
b = tf.distribute.MirroredStrategy(devices=[f"cpu:{i}" for i in range(2)])
c = tf.distribute.MirroredStrategy(devices=devices)
d = tf.distribute.MirroredStrategy()  # error: GP203
e = tf.distribute.MirroredStrategy(devices=None)  # error: GP203
f = tf.distribute.MirroredStrategy(tf.config.list_logical_devices("CPU"))
g = tf.distribute.MirroredStrategy(tf.config.list_logical_devices("GPU"))  # error: GP203
h = jax.pmap(step, devices=jax.devices("cpu"))
h = jax.pmap(step, devices=jax.devices(backend="cpu"))
i = jax.pmap(step, devices=jax.devices()[:1])
j = jax.pmap(step, devices=jax.devices())  # error: GP203
k = jax.pmap(step)  # error: GP203
m = faiss.index_cpu_to_gpu_multiple_py(resources, index, gpus=[0])
"#,
        );
    }

    #[test]
    fn shares_of_a_model_are_counted() {
        check(
            r#"
//- gpupin.toml
[gpu]
name = "RTX 3090"
count = 2
//- main.py
from llama_cpp import Llama
a = Llama("a.gguf", tensor_split=[0.5, 0.5])
b = Llama("a.gguf", tensor_split=[1.0, 0.0, 0.0])
c = Llama("a.gguf", tensor_split=[0.4, 0.3, 0.3])  # error: GP203
d = Llama("a.gguf", tensor_split=None)
"#,
        );
        check(
            r#"
from llama_cpp import Llama
a = Llama("a.gguf", tensor_split=[0.5, 0.5])  # error: GP203
"#,
        );
    }

    #[test]
    fn a_test_that_asks_for_several_gpus_may_use_them() {
        check(
            r#"
//- test_app.py
import pytest
import torch
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="two GPUs")
def test_a():
    torch.nn.DataParallel(net)
@require_multi_gpu
class TestB:
    def test_b(self):
        torch.nn.DataParallel(net)
def test_c():
    if torch.cuda.device_count() > 1:
        torch.nn.DataParallel(net)  # error: GP203
"#,
        );
    }

    #[test]
    fn a_mark_alone_skips_nothing() {
        check(
            r#"
//- test_app.py
import pytest
import torch
@pytest.mark.single_gpu_tests
@pytest.mark.multi_gpu_tests
class TestA:
    def test_a(self):
        torch.nn.DataParallel(net)  # error: GP203
@pytest.mark.multi_gpu
@require_torch_multi_accelerator
def test_b():
    torch.nn.DataParallel(net)
@multi_gpu_test(num_gpus=2)
def test_c():
    torch.nn.DataParallel(net)
"#,
        );
    }

    #[test]
    fn every_loader_that_takes_a_device_map_can_spread() {
        check(
            r#"
from accelerate import load_checkpoint_and_dispatch
from accelerate.utils import load_and_quantize_model
a = load_checkpoint_and_dispatch(model, "a", device_map="auto")  # error: GP203
b = load_and_quantize_model(model, config, weights_location="a", device_map="auto")  # error: GP203
c = load_and_quantize_model(model, config, "a", "balanced")  # error: GP203
d = load_and_quantize_model(model, config, weights_location="a", device_map={"": 0})
"#,
        );
    }

    #[test]
    fn under_a_pin_there_is_nothing_to_spread_over() {
        check(
            r#"
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
from transformers import AutoModel
model = AutoModel.from_pretrained("a", device_map="auto")
"#,
        );
    }

    #[test]
    fn as_many_gpus_as_declared_are_no_spread() {
        check(
            r#"
//- gpupin.toml
[gpu]
name = "RTX 3090"
count = 2
//- main.py
from vllm import LLM
a = LLM("a", tensor_parallel_size=2)
b = LLM("a", tensor_parallel_size=4)  # error: GP203
"#,
        );
    }

    #[test]
    fn a_project_pinned_from_outside_is_pinned() {
        check(
            r#"
//- gpupin.toml
[gpu]
name = "RTX 3090"
[lint]
style = "external"
//- main.py
import torch
model = torch.nn.DataParallel(net)
"#,
        );
    }

    #[test]
    fn a_module_is_judged_by_the_programs_that_use_it() {
        check(
            r#"
//- model.py
from transformers import AutoModel
model = AutoModel.from_pretrained("a", device_map="auto")
//- main.py
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
import model
if __name__ == "__main__":
    print(model)
"#,
        );
    }
}
