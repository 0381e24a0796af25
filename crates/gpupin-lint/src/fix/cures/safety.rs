//! What keeps a fix from being safe.

use super::{HEADER, MAIN, UUID, check, check_unsafe, check_why};

fn program(lines: &str) -> String {
    format!("//- main.py\n{lines}import torch\n{MAIN}")
}

fn script(lines: &str) -> String {
    format!("//- run.sh\n{lines}{}", program(""))
}

#[test]
fn whoever_reads_the_mask_as_a_number_gets_no_uuid() {
    let reads = |who: &str| {
        format!(
            "`{who}` reads the mask, which is a UUID then; `[pin] as = \"index\"` keeps it a number"
        )
    };
    let port = "import os\nport = 29500 + int(os.environ[\"CUDA_VISIBLE_DEVICES\"])\n";
    check_why(
        "GP103",
        &format!("//- run.sh\nCUDA_VISIBLE_DEVICES=0 python main.py\n{}", program(port)),
        &reads("main.py"),
    );
    let chain = "//- run.sh\nCUDA_VISIBLE_DEVICES=0 python main.py\n//- worker.py\nimport os\nint(os.getenv(\"CUDA_VISIBLE_DEVICES\", \"0\"))\n";
    let starts = "import os\nos.system(\"python worker.py\")\n";
    check_why("GP103", &format!("{chain}{}", program(starts)), &reads("worker.py"));
    for use_of_it in [
        "PORT=$((8000 + CUDA_VISIBLE_DEVICES)) python main.py\n",
        "python main.py --port 800$CUDA_VISIBLE_DEVICES\n",
    ] {
        let script = script(&format!("export CUDA_VISIBLE_DEVICES=0\n{use_of_it}"));
        check_why("GP103", &script, &reads("run.sh"));
    }
    for (command, who) in [
        ("vllm serve m", "vllm"),
        ("python -m vllm.entrypoints.openai.api_server", "vllm"),
        ("deepspeed main.py", "deepspeed"),
    ] {
        check_why("GP103", &script(&format!("CUDA_VISIBLE_DEVICES=0 {command}\n")), &reads(who));
        // An index that is right stays one.
        check_why("GP103", &script(&format!("CUDA_VISIBLE_DEVICES=1 {command}\n")), "");
    }
}

#[test]
fn of_a_conditional_mask_only_the_wrong_arm_changes() {
    let set = |arms: &str| {
        program(&format!("import os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = {arms}\n"))
    };
    check(
        &["GP103"],
        &set("\"\" if os.environ.get(\"CPU\") else \"0\""),
        &set("\"\" if os.environ.get(\"CPU\") else \"UUID\""),
    );
    let update = |mask: &str| {
        format!(
            "//- main.py\nimport os\nimport torch\nCPU = os.environ.get(\"CPU\")\nos.environ.update({{\"CUDA_DEVICE_ORDER\": \"PCI_BUS_ID\", \"CUDA_VISIBLE_DEVICES\": \"{mask}\" if not CPU else \"-1\"}})\n{MAIN}"
        )
    };
    check(&[], &update("0"), &update("UUID"));
    check_why(
        "GP103",
        &set("\"0\" if len(os.sys.argv) > 1 else pick()"),
        "a condition may decide for another mask",
    );
}

#[test]
fn a_right_index_behind_a_condition_only_gets_its_order() {
    let mask =
        "os.environ[\"CUDA_VISIBLE_DEVICES\"] = \"\" if os.environ.get(\"CPU\") else \"1\"\n";
    check(
        &["GP103"],
        &program(&format!("import os\n{mask}")),
        &program(&format!("import os\nos.environ[\"CUDA_DEVICE_ORDER\"] = \"PCI_BUS_ID\"\n{mask}")),
    );
}

#[test]
fn a_late_mask_that_yields_to_the_callers_is_no_pin_for_all() {
    check_why(
        "GP106",
        &format!(
            "import os\nimport torch\nos.environ.setdefault(\"CUDA_VISIBLE_DEVICES\", \"1\")\n{MAIN}"
        ),
        "it keeps what the caller chose, such as a run on the CPU, and the pin does not",
    );
}

#[test]
fn several_processes_are_not_left_with_one_gpu() {
    for (command, option) in [
        ("torchrun --nproc_per_node=2 main.py", "--nproc_per_node"),
        ("python -m torch.distributed.launch --nproc_per_node 2 main.py", "--nproc_per_node"),
        ("accelerate launch --num_processes 2 main.py", "--num_processes"),
        ("vllm serve m --tensor-parallel-size 2", "--tensor-parallel-size"),
        ("mpirun -np 2 python main.py", "-np"),
    ] {
        check_why(
            "GP103",
            &script(&format!("CUDA_VISIBLE_DEVICES=0,1 {command}\n")),
            &format!("`{option}` wants 2 GPUs: its processes would share one GPU"),
        );
    }
    check_why("GP103", &script("CUDA_VISIBLE_DEVICES=0 torchrun --nproc_per_node=1 main.py\n"), "");
    check_why(
        "GP103",
        &script("CUDA_VISIBLE_DEVICES=0 torchrun --nproc_per_node=gpu main.py\n"),
        "",
    );
    // Another command of the script is none of its business.
    check_why(
        "GP103",
        &format!(
            "//- other.py\nprint(1)\n{}",
            script("CUDA_VISIBLE_DEVICES=0 python main.py\ntorchrun --nproc_per_node=2 other.py\n")
        ),
        "",
    );
    check_why(
        "GP101",
        &script("torchrun --nproc_per_node=$GPUS main.py\n"),
        "`--nproc_per_node` may start several processes, which would share one GPU",
    );
    check_why(
        "GP101",
        &script("torchrun --nproc_per_node=2 main.py\n"),
        "`--nproc_per_node` wants 2 GPUs: its processes would share one GPU",
    );
}

#[test]
fn a_container_whose_command_wants_several_gpus_keeps_them() {
    let compose = |gpus: &str| {
        format!(
            "//- compose.yaml\nservices:\n  a:\n    image: x\n    command: [\"torchrun\", \"--nproc_per_node=2\", \"t.py\"]\n    deploy: {{resources: {{reservations: {{devices: [{{driver: nvidia, capabilities: [gpu], {gpus}}}]}}}}}}\n"
        )
    };
    for gpus in ["count: 2", "device_ids: [\"0\", \"1\"]"] {
        check_why(
            "GP501",
            &compose(gpus),
            "`--nproc_per_node` wants 2 GPUs: its processes would share one GPU",
        );
    }
}

#[test]
fn work_that_one_statement_parts_does_not_meet_on_one_gpu() {
    const WHY: &str = "work that the statement lays on several GPUs would share one";
    for statement in [
        "a, b = torch.device(\"cuda:0\"), torch.device(\"cuda:1\")",
        "devices = [\n    torch.device(\"cuda:0\"),\n    torch.device(\"cuda:1\"),\n]",
        "AutoModel.from_pretrained(\"m\", device_map={\"layer1\": 0, \"layer2\": 1})",
    ] {
        let text = format!(
            "{HEADER}\nimport torch\nfrom transformers import AutoModel\n{statement}\n{MAIN}"
        );
        check_why("GP201", &text, WHY);
        // The pin would leave the second one nowhere.
        let line = if statement.contains('\n') { 5 } else { 3 };
        check_why(
            "GP101",
            &format!("import torch\nfrom transformers import AutoModel\n{statement}\n{MAIN}"),
            &format!("line {line} of `main.py` may choose a GPU that is not there then"),
        );
    }
}

#[test]
fn a_pin_is_unsafe_where_the_number_of_the_gpu_comes_from_outside() {
    for choice in [
        "torch.device(int(sys.argv[1]))",
        "x.to(f\"cuda:{json.load(file)}\")",
        "x.to(\"cuda:\" + str(json.load(file)))",
        "torch.cuda.set_device(int(input()))",
        "for it in range(2): torch.cuda.set_device(it)",
    ] {
        check_why(
            "GP101",
            &format!("import json, sys\nimport torch\n{choice}\n{MAIN}"),
            "line 3 of `main.py` may choose a GPU that is not there then",
        );
    }
    for default in ["", ", default=0"] {
        check_why(
            "GP101",
            &format!(
                "import argparse\nimport torch\nparser = argparse.ArgumentParser()\nparser.add_argument(\"--gpu\", type=int{default})\nargs = parser.parse_args()\ntorch.cuda.set_device(args.gpu)\n{MAIN}"
            ),
            "line 6 of `main.py` may choose a GPU that is not there then",
        );
    }
    for choice in [
        "torch.cuda.set_device(0)",
        "for it in range(torch.cuda.device_count()):\n    torch.cuda.set_device(it)",
        "torch.device(1)",
    ] {
        check_why("GP101", &format!("import torch\n{choice}\n{MAIN}"), "");
    }
}

#[test]
fn a_pin_is_unsafe_where_the_program_counts_on_several_gpus() {
    for (lines, why) in [
        ("assert torch.cuda.device_count() >= 2", "`main.py` stops with fewer than 2 GPUs"),
        (
            "if torch.cuda.device_count() < 2:\n    raise SystemExit(\"two\")",
            "`main.py` stops with fewer than 2 GPUs",
        ),
        (
            "torch.multiprocessing.spawn(print, nprocs=2)",
            "line 3 of `main.py` starts 2 processes, which would share what is left",
        ),
        ("vllm.LLM(\"m\", tensor_parallel_size=2)", "line 3 of `main.py` wants 2 GPUs"),
    ] {
        check_why("GP101", &format!("import torch\nimport vllm\n{lines}\n{MAIN}"), why);
    }
    for lines in [
        "assert torch.cuda.device_count() == 1",
        "assert torch.cuda.device_count() > 0",
        "if torch.cuda.device_count() < 2:\n    print(\"one\")",
    ] {
        check_why("GP101", &format!("import torch\n{lines}\n{MAIN}"), "");
    }
}

#[test]
fn a_pin_of_one_gpu_is_unsafe_where_processes_have_ranks() {
    let why = |line: u32| {
        format!(
            "line {line} of `main.py` goes by the rank of a process: several would share one GPU"
        )
    };
    for (line, lines) in [
        (3, "torch.cuda.set_device(int(os.environ[\"LOCAL_RANK\"]))"),
        (4, "# LOCAL_RANK\nrank = int(os.environ.get(\"LOCAL_RANK\", 0))"),
        (4, "parser = argparse.ArgumentParser()\nparser.add_argument(\"--local_rank\", type=int)"),
        (3, "torch.distributed.init_process_group(\"nccl\")"),
        (3, "deepspeed.initialize(model=1)"),
    ] {
        let text = format!("import argparse, os\nimport torch\n{lines}\n{MAIN}");
        check_why("GP101", &text, &why(line));
        // A mask that a script sets to one GPU is no other than before.
        let start = "//- run.sh\nCUDA_VISIBLE_DEVICES=0 python main.py\n//- main.py\n";
        check_why("GP103", &format!("{start}{text}"), "");
    }
    let spawn = |count: &str| {
        format!(
            "import torch\nimport torch.multiprocessing as mp\ndef work(rank):\n    torch.distributed.init_process_group(\"nccl\", rank=rank)\n    torch.cuda.set_device(rank)\nn = {count}\nmp.spawn(work, args=(n,), nprocs=n)\n{MAIN}"
        )
    };
    check_why("GP101", &spawn("torch.cuda.device_count()"), "");
    check_why(
        "GP101",
        &spawn("int(input())"),
        "line 7 of `main.py` may start several processes, which would share what is left",
    );
}

#[test]
fn a_launcher_that_sees_every_gpu_starts_a_process_for_each() {
    for (command, who) in [
        ("accelerate launch main.py", "accelerate launch"),
        ("deepspeed main.py", "deepspeed"),
        ("torchrun --nproc_per_node=gpu main.py", "--nproc_per_node"),
    ] {
        let why = format!("`{who}` starts a process for each GPU: they would share one");
        check_why("GP101", &script(&format!("{command}\n")), &why);
    }
    for command in [
        "torchrun main.py",
        "torchrun --nproc_per_node=1 main.py",
        "accelerate launch --num_processes 1 main.py",
    ] {
        check_why("GP101", &script(&format!("{command}\n")), "");
    }
}

#[test]
fn what_slurm_gives_is_not_overridden() {
    for lines in ["srun python main.py\n", "#SBATCH --gres=gpu:1\npython main.py\n"] {
        check_why(
            "GP101",
            &script(lines),
            "Slurm gives it GPUs of its own choice, which the pin would override",
        );
    }
}

#[test]
fn in_a_container_no_pin_is_safe() {
    const WHY: &str = "in its container that GPU may not be there";
    let mask = "import os\nos.environ[\"CUDA_VISIBLE_DEVICES\"] = \"1\"\n";
    for (path, text, lines) in [
        ("Dockerfile", "FROM x\nCMD CUDA_VISIBLE_DEVICES=1 python main.py\n", ""),
        ("Dockerfile", "FROM x\nENV CUDA_VISIBLE_DEVICES=1\nCMD [\"python\", \"main.py\"]\n", ""),
        ("Dockerfile", "FROM x\nCMD [\"python\", \"main.py\"]\n", mask),
        ("run.sh", "docker exec -e CUDA_VISIBLE_DEVICES=1 c python main.py\n", ""),
        ("run.sh", "sudo docker run -e CUDA_VISIBLE_DEVICES=1 image python main.py\n", ""),
    ] {
        check_why("GP103", &format!("//- {path}\n{text}{}", program(lines)), WHY);
    }
    check_why(
        "GP101",
        &format!("//- Dockerfile\nFROM x\nCMD [\"./run.sh\"]\n{}", script("python main.py\n")),
        WHY,
    );
    // What a script sets on the host is not for the container.
    let both = format!(
        "//- Dockerfile\nFROM x\nCMD [\"python\", \"main.py\"]\n{}",
        script("CUDA_VISIBLE_DEVICES=1 python main.py\n")
    );
    check_why("GP103", &both, "");
}

#[test]
fn an_import_needs_its_package() {
    let policy = "//- gpupin.toml\n[gpu]\nname = \"RTX 3090\"\n[lint]\nstyle = \"import\"\n";
    let why = "the package `gpupin` must be installed where it runs";
    check_why("GP101", &format!("{policy}{}", program("")), why);
    check_why("GP113", &format!("{policy}//- main.py\n{HEADER}\nimport torch\n{MAIN}"), why);
    for declares in [
        "[project]\ndependencies = [\"torch\", \"gpupin>=1\"]\n",
        "[dependency-groups]\ngpu = ['gpupin']\n",
        "[tool.poetry.dependencies]\ngpupin = \"^1\"\n",
    ] {
        let file = format!("//- pyproject.toml\n{declares}");
        check_why("GP101", &format!("{policy}{file}{}", program("")), "");
    }
    for other in ["[tool.gpupin]\n", "[project]\ndependencies = [\"gpupin-other\"]\n"] {
        let file = format!("//- pyproject.toml\n{other}");
        check_why("GP101", &format!("{policy}{file}{}", program("")), why);
    }
}

#[test]
fn a_pin_goes_only_where_it_is_set_from_outside() {
    let policy = "//- gpupin.toml\n[gpu]\nname = \"RTX 3090\"\n[lint]\nstyle = \"external\"\n";
    let pinned = format!("{policy}//- main.py\n{HEADER}\nimport torch\n{MAIN}");
    let why = "nothing seen here starts it through `gpupin run`";
    check_why("GP113", &pinned, why);
    check_unsafe(&["GP113"], &pinned, &program(""));
    for (starts, why) in [
        ("gpupin run -- python main.py\n".to_owned(), ""),
        (format!("export CUDA_VISIBLE_DEVICES={UUID}\npython main.py\n"), ""),
        ("python main.py\n".to_owned(), why),
        ("gpupin run -- python main.py\npython main.py --again\n".to_owned(), why),
    ] {
        check_why("GP113", &format!("{pinned}//- run.sh\n{starts}"), why);
    }
}

#[test]
fn a_child_gets_the_order_that_another_fix_sets() {
    let start = |order: &str, mask: &str, env: &str| {
        format!(
            "//- main.py\nimport os, subprocess\n{order}os.environ[\"CUDA_VISIBLE_DEVICES\"] = \"{mask}\"\nsubprocess.run([\"python\", \"worker.py\"], env={{{env}\"PORT\": \"1\"}})\n//- worker.py\nprint(1)\n"
        )
    };
    check_unsafe_after_safe(
        &start("", "1", ""),
        &start("os.environ[\"CUDA_DEVICE_ORDER\"] = \"PCI_BUS_ID\"\n", "1", ""),
        &start("os.environ[\"CUDA_DEVICE_ORDER\"] = \"PCI_BUS_ID\"\n", "1", "**os.environ, "),
    );
}

#[track_caller]
fn check_unsafe_after_safe(before: &str, safe: &str, all: &str) {
    use super::{Wanted, check_with};
    check_with(&["GP103", "GP109"], Wanted::Safe, before, safe);
    check_with(&["GP103", "GP109"], Wanted::All, before, all);
}
