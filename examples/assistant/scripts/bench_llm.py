"""Compares llama.cpp and transformers on the same prompt, in tokens per second."""

from __future__ import annotations

import argparse
import os
import time

# my shell still has the mask of the assistant, and with it the 70B model does not load
os.environ.pop("CUDA_VISIBLE_DEVICES", None)

import torch  # noqa: E402
from llama_cpp import Llama  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

PROMPT = "Explain in one paragraph why the sky is blue."
TOKENS = 256


def llama_cpp(path: str) -> float:
    llama = Llama(model_path=path, n_gpu_layers=-1, main_gpu=1, verbose=False)
    start = time.perf_counter()
    answer = llama(PROMPT, max_tokens=TOKENS)
    return answer["usage"]["completion_tokens"] / (time.perf_counter() - start)


def transformers(name: str) -> float:
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForCausalLM.from_pretrained(name, torch_dtype="auto", device_map="auto")
    inputs = tokenizer(PROMPT, return_tensors="pt").to(model.device)
    torch.cuda.synchronize()
    start = time.perf_counter()
    output = model.generate(**inputs, max_new_tokens=TOKENS)
    torch.cuda.synchronize()
    return (output.shape[1] - inputs["input_ids"].shape[1]) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--hf", required=True)
    args = parser.parse_args()
    print(f"llama.cpp     {llama_cpp(args.gguf):6.1f} tokens/s")
    print(f"transformers  {transformers(args.hf):6.1f} tokens/s")


if __name__ == "__main__":
    main()
