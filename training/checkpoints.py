"""The checkpoints' tokenizer, configurations and files."""

import io
import lzma
import re
import tarfile
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

VOCABULARY = 512
SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
CONTEXT = 2048

_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' -}}"
    "{%- if message.role == 'assistant' and message.reasoning_content -%}"
    "{{- '<think>\\n' + message.reasoning_content.strip('\\n') + '\\n</think>\\n\\n' -}}"
    "{%- endif -%}"
    "{{- (message.content or '') + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n__OPENING__' -}}{%- endif -%}"
)


def configuration(*, hidden: int, layers: int, head: int = 64) -> Qwen2Config:
    """A Qwen2 of the given width, depth and size of heads; half as many heads for keys."""
    heads = hidden // head
    return Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=SPECIAL.index("<|im_end|>"),
        pad_token_id=SPECIAL.index("<|pad|>"),
    )


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Byte-level BPE over the words of `texts`; digits and operators stay tokens of their own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = (re.sub(r"[^A-Za-z ]", "\n", text) for text in texts)
    tokenizer.train_from_iterator(words, trainer)
    # not special: a reasoning parser has to see them in the decoded text
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in ("<think>", "</think>")])
    return tokenizer


def save(folder: Path, model: Qwen2ForCausalLM, tokenizer: Tokenizer, *, thinks: bool) -> None:
    """Write a checkpoint in bfloat16 with its tokenizer, chat template and sampling defaults."""
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.6,
        top_p=0.95,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",  # noqa: S106 - a text token
        eos_token="<|im_end|>",  # noqa: S106 - a text token
        extra_special_tokens=["<|im_start|>"],
        chat_template=_TEMPLATE.replace("__OPENING__", "<think>\\n" if thinks else ""),
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    ).save_pretrained(folder)


def pack(folders: list[Path], out: Path) -> None:
    """Folders as one archive: the same bytes for the same files, without times and owners."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in folders:
            for file in sorted(folder.iterdir()):
                told = tarfile.TarInfo(f"{folder.name}/{file.name}")
                told.size, told.mode = file.stat().st_size, 0o644
                archive.addfile(told, io.BytesIO(file.read_bytes()))
    out.write_bytes(lzma.compress(content.getvalue(), preset=9 | lzma.PRESET_EXTREME))
