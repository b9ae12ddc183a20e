"""The image's own test, run inside it: imports the whole stack and does one training step on the CPU."""

import sys

import accelerate
import datasets
import peft
import psutil
import pynvml
import safetensors
import sklearn
import torch
import transformers

STACK = (accelerate, datasets, peft, psutil, pynvml, safetensors, sklearn, torch, transformers)


def step() -> tuple[float, float]:
    """Train a tiny model with LoRA for one step.

    Returns:
        The loss on one batch before and after.
    """
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=99
    )
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()  # no dropout
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"]))
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model, optimiser = accelerate.Accelerator(cpu=True).prepare(model, optimiser)
    batch = {"input_ids": torch.randint(0, 99, (4, 8)), "labels": torch.tensor([0, 1, 0, 1])}
    before = model(**batch).loss
    before.backward()
    optimiser.step()
    return before.item(), model(**batch).loss.item()


def main() -> int:
    """Test the image; status 1 if the step did not lower the loss."""
    before, after = step()
    print(f"{len(STACK)} packages import; torch {torch.__version__}; one step: loss {before:.4f} to {after:.4f}")
    return 0 if after < before else 1


if __name__ == "__main__":
    sys.exit(main())
