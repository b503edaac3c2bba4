"""A judge small enough to write its weights by hand, behind `transformers serve`: `python small_judge.py FOLDER`.

One layer of Llama over words. Its attention is the mean over the text (queries and keys are zero), so that after the
prompt the head sees which of its words stood there: "excellent" → it writes a verdict of 0.75, "odd" → no verdict at
all, else a verdict of 7, which is out of range. Then it ends its turn.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HIGH = '{"steps": [{"description": "read", "conclusion": "good"}], "result": 0.75}'
WILD = '{"steps": [], "result": 7}'
NOTHING = "I would rather not say."
WORDS = ["<unk>", "<|end|>", "<|judge|>", "excellent", "odd", HIGH, NOTHING, WILD]
UNK, END, JUDGE, EXCELLENT, ODD, HIGH_ID, NOTHING_ID, WILD_ID = range(len(WORDS))
TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}<|judge|>"


def write_judge(folder: Path) -> None:
    """Model and tokenizer in `folder`, as from_pretrained takes them."""
    words = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        eos_token="<|end|>",
        additional_special_tokens=["<|judge|>"],
        chat_template=TEMPLATE,
    ).save_pretrained(folder)

    size = len(WORDS)
    shape = {"hidden_size": size, "intermediate_size": size, "num_attention_heads": 1, "head_dim": size}
    config = LlamaConfig(
        vocab_size=size,
        num_hidden_layers=1,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=END,
        tie_word_embeddings=False,
        **shape,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            weights.fill_(1.0 if "norm" in name else 0.0)
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        attention = model.model.layers[0].self_attn
        attention.o_proj.weight.copy_(torch.eye(size))
        for word in (EXCELLENT, ODD):
            attention.v_proj.weight[word, word] = 1.0
        head = model.lm_head.weight
        head[WILD_ID, JUDGE] = 1.0
        # A word counts as one part in the length of the text: enough for texts of thousands of words.
        head[HIGH_ID, EXCELLENT] = head[NOTHING_ID, ODD] = 1e5
        for written in (HIGH_ID, NOTHING_ID, WILD_ID):
            head[END, written] = 1e6
    model.generation_config.update(do_sample=False, eos_token_id=END, pad_token_id=END)
    model.save_pretrained(folder)


if __name__ == "__main__":
    write_judge(Path(sys.argv[1]))
    from transformers.cli.transformers import main

    sys.argv = ["transformers", "serve", sys.argv[1], "--host=127.0.0.1", "--port=0", "--device=cpu"]
    main()
