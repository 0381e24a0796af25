#!/usr/bin/env python3
"""Fine-tunes a small model on our own dialogues (JSON lines with a `text` field)."""

from __future__ import annotations

import argparse
import json
import logging
import os
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

# train on the 3090
os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "max_split_size_mb:1024"

log = logging.getLogger("finetune")


def load_texts(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def train_epoch(model, loader, optimizer) -> float:
    model.train()
    total_loss = 0.0
    for batch in loader:
        loss = model(**batch, labels=batch["input_ids"]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total_loss += loss
    return float(total_loss) / len(loader)


@torch.no_grad()
def validate(model, loader) -> float:
    model.eval()
    total_loss = 0.0
    for batch in loader:
        total_loss += model(**batch, labels=batch["input_ids"]).loss.item()
    return total_loss / len(loader)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B-Instruct")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--output", type=Path, default=Path("checkpoints"))
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model).to("cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    start = 0
    if args.resume:
        checkpoint = torch.load(args.resume, map_location="cuda:1")
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        start = checkpoint["epoch"] + 1

    def collate(texts: list[str]):
        return tokenizer(texts, return_tensors="pt", padding=True, truncation=True).to("cuda")

    texts = load_texts(args.data)
    held_out = max(1, len(texts) // 20)
    train = DataLoader(texts[held_out:], args.batch_size, shuffle=True, collate_fn=collate)
    test = DataLoader(texts[:held_out], args.batch_size, collate_fn=collate)
    args.output.mkdir(parents=True, exist_ok=True)
    for epoch in range(start, args.epochs):
        loss = train_epoch(model, train, optimizer)
        log.info("epoch %d: loss %.4f, validation %.4f", epoch, loss, validate(model, test))
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
        torch.save(state, args.output / f"epoch-{epoch}.pt")


if __name__ == "__main__":
    main()
