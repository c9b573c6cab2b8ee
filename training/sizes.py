"""Train siblings of the bundled reasoning model of other sizes: `python training/sizes.py quarter`.

`quarter` has a quarter of its parameters (half its width), `four` four times as many (twice its
width); layers, tokenizer, texts and stages are the same. What is made is a pair with the bundled
plain model, which FOLDER/pair.toml describes: name that file with `--rllm-model`.
"""

import argparse
import shutil
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from transformers import Qwen2ForCausalLM  # noqa: E402

from training.checkpoints import configuration, save  # noqa: E402
from training.train import STAGES, optimise  # noqa: E402

MODELS = ROOT / "pytest_rllm" / "models"
WIDTHS = {"quarter": 128, "four": 512}
CHAIN = ("base", "thinking", "longer", "reasoning")


def main() -> None:
    """Run the stages that the folder does not hold yet, then export."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("size", choices=WIDTHS)
    options.add_argument("--out", type=Path, help="folder of the pair; .rllm/SIZE by default")
    options.add_argument("--seed", type=int, default=2025)
    options.add_argument("--scale", type=float, default=1.0, help="share of the training")
    options.add_argument("--threads", type=int, default=2)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    out = chosen.out or Path(".rllm") / chosen.size
    (out / "stages").mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(MODELS / "tiny-reasoning" / "tokenizer.json"))
    named = {stage.name: stage for stage in STAGES}
    for number, name in enumerate(CHAIN):
        stage = replace(named[name], hidden=WIDTHS[chosen.size])
        kept = out / "stages" / f"{name}.pt"
        torch.manual_seed(chosen.seed)
        model = Qwen2ForCausalLM(configuration(hidden=stage.hidden, layers=stage.layers))
        if kept.exists():
            model.load_state_dict(torch.load(kept))
            continue
        if stage.start:
            model.load_state_dict(torch.load(out / "stages" / f"{stage.start}.pt"))
        optimise(stage, model, tokenizer, kept, seed=chosen.seed + number, scale=chosen.scale)
        torch.save(model.state_dict(), kept)
    save(out / "reasoning", model, tokenizer, thinks=True)
    shutil.copytree(MODELS / "tiny-plain", out / "plain", dirs_exist_ok=True)
    (out / "pair.toml").write_text(PAIR.format(size=chosen.size))


PAIR = """\
# Made by training/sizes.py.
name = "tiny-{size}"
reasoning = "reasoning"
plain = "plain"
reasoning_format = "deepseek-r1"
context_length = 1536
kv_cache_bytes = 26214400
kv_block_tokens = 32

[budgets]
short = 64
enough = 512
generous = 1024
fixed_length = 128

[tiers]
easy.dataset = "bundled-easy"
medium.dataset = "bundled-medium"
hard.dataset = "bundled-hard"
knowledge.dataset = "bundled-knowledge"
"""

if __name__ == "__main__":
    main()
