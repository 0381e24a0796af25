"""The language model, and a memory of what was said."""

from __future__ import annotations

import torch
from llama_cpp import Llama
from sentence_transformers import SentenceTransformer, util

from assistant.settings import LlmSettings

SYSTEM = "You are a helpful voice assistant. Answer in one or two short sentences."


class LlamaCpp:
    def __init__(self, settings: LlmSettings) -> None:
        self._llama = Llama(
            model_path=settings.model,
            n_gpu_layers=settings.n_gpu_layers,
            n_ctx=settings.n_ctx,
            main_gpu=settings.main_gpu,
            verbose=False,
        )

    def reply(self, messages: list[dict[str, str]]) -> str:
        answer = self._llama.create_chat_completion(messages=messages, max_tokens=200)
        return answer["choices"][0]["message"]["content"].strip()


class Transformers:
    def __init__(self, settings: LlmSettings) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(settings.model)
        # "auto" put half of the layers on the 5060 Ti, so everything explicitly on the 3090
        self._model = AutoModelForCausalLM.from_pretrained(
            settings.model,
            torch_dtype=torch.bfloat16,
            device_map={"": 1},
        )

    @torch.inference_mode()
    def reply(self, messages: list[dict[str, str]]) -> str:
        prompt = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt"
        )
        output = self._model.generate(prompt.to("cuda:1"), max_new_tokens=200)
        return self._tokenizer.decode(output[0, prompt.shape[1] :], skip_special_tokens=True)


class Memory:
    """Finds what was said earlier about the same thing."""

    def __init__(self, settings: LlmSettings) -> None:
        self._embedder = SentenceTransformer(settings.embedder, device=settings.embedder_device)
        self._texts: list[str] = []
        self._vectors: list[torch.Tensor] = []

    def add(self, text: str) -> None:
        self._texts.append(text)
        self._vectors.append(self._embedder.encode(text, convert_to_tensor=True))

    def recall(self, text: str, count: int = 3) -> list[str]:
        if not self._texts:
            return []
        query = self._embedder.encode(text, convert_to_tensor=True)
        hits = util.semantic_search(query, torch.stack(self._vectors), top_k=count)[0]
        return [self._texts[hit["corpus_id"]] for hit in hits if hit["score"] > 0.4]


def load(settings: LlmSettings) -> LlamaCpp | Transformers:
    return LlamaCpp(settings) if settings.backend == "llama.cpp" else Transformers(settings)
