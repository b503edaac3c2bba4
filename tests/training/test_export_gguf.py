"""`rft export --format gguf`: the file is the run's model in transformers and in llama.cpp, or there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rft_cli.config.schema import ModelConfig
from rft_cli.runs import Run
from rft_cli.runs.exports import Quantization
from rft_cli.serving.llama_cpp import server_command
from rft_cli.training.export import exporter
from rft_cli.training.export.gguf_file import export as exporting
from rft_cli.training.export.gguf_file.llama_server import serving
from rft_cli.training.export.gguf_file.pre_tokenizers import known_as
from rft_cli.training.export.gguf_file.reload import HARD_TEXTS, Fields, read_model, tokenizer_faults
from rft_cli.training.export.gguf_file.turns import find_turns, ollama_template
from rft_cli.training.export.gguf_file.vocabulary import vocabulary_of
from rft_cli.training.export.gguf_file.writer import TYPES, Content, Sampling, round_as_stored, write_gguf
from rft_cli.training.rollouts.sampling import SamplingSettings
from tests.faults.jobs import rft_here
from tests.training.made_runs import END, PAD, TINY, VOCABULARY, run_of, save_base

needs_llama_cpp = pytest.mark.skipif(
    server_command() is None, reason="neither llama-server nor xllamacpp is installed"
)
SIZE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "eos_token_id": END,
    "pad_token_id": PAD,
    "bos_token_id": None,
}
GEMMA: dict[str, Any] = {**SIZE, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 8}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LAYERS = ["sliding_attention", "full_attention"]
FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZE)),
    "llama-3.2": lambda: LlamaForCausalLM(
        LlamaConfig(**SIZE, head_dim=32, tie_word_embeddings=True, rope_parameters=LLAMA3)
    ),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZE, head_dim=32, sliding_window=128)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZE)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZE, head_dim=32, tie_word_embeddings=True)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**GEMMA, layer_types=LAYERS)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**GEMMA, layer_types=LAYERS)),
    "phi3": lambda: Phi3ForCausalLM(Phi3Config(**SIZE, sliding_window=None)),
}
SENTENCEPIECE = ("mistral", "gemma2", "gemma3", "phi3")
PROMPT = "<|user|>A customer waits for 12 orders.<|end|><|assistant|>"
GREEDY = SamplingSettings(16, 0.0, 1.0, (END,), PAD)


def model_of(family: str) -> Any:
    """A random model, its weights large enough for differences to show."""
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.3 if parameter.dim() < 2 else 0.2))
    return model


def sentencepiece() -> Any:
    """A tokenizer as Llama 2, Mistral and Gemma have them: a BPE that falls back to bytes, words begin with ▁."""
    texts = ["▁the", "▁order", "▁customer", "▁waits", "ing", "▁12", "▁for"]
    special = ["<|pad|>", "<s>", "<unk>", "<|end|>", "<|user|>", "<|assistant|>"]
    letters = sorted(
        {letter for text in texts for letter in text} | set("abcdefghijklmnopqrstuvwxyz.0123456789")
    )
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    merges: list[tuple[str, str]] = []
    for text in texts:
        for end in range(2, len(text) + 1):
            pair = (text[: end - 1], text[end - 1])
            if text[:end] not in tokens:
                tokens.append(text[:end])
                merges.append(pair)
    # As converters write them: every pair that makes the same token, in the order of the tokens.
    every = [
        (token[:cut], token[cut:])
        for token in tokens
        if any("".join(pair) == token for pair in merges)
        for cut in range(1, len(token))
        if token[:cut] in tokens and token[cut:] in tokens
    ]
    inner = Tokenizer(
        models.BPE(
            {token: number for number, token in enumerate(tokens)}, every, unk_token="<unk>",
            byte_fallback=True, fuse_unk=True,
        )
    )  # fmt: skip
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="<|end|>", unk_token="<unk>", pad_token="<|pad|>",
        extra_special_tokens=["<|user|>", "<|assistant|>"],
    )  # fmt: skip


def written(family: str, folder: Path, tokenizer: Any, type: str = "f32") -> tuple[Path, Any, Any]:
    model = model_of(family)
    vocabulary = vocabulary_of(tokenizer, VOCABULARY, [END])
    file = folder / f"{family}-{type}.gguf"
    write_gguf(file, model, Content(f"made {family}", vocabulary, Sampling(0.0, 1.0), type))
    return file, model, vocabulary


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_the_same_model_in_transformers_reader(family: str, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    file, model, vocabulary = written(family, tmp_path, tokenizer)
    assert tokenizer_faults(file, vocabulary, tokenizer, HARD_TEXTS) == []
    read, faults = read_model(file, ModelConfig(path=str(file)), model.config)
    assert faults == []
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(read.eval()(ids).logits, model(ids).logits, rtol=0, atol=1e-5)


@needs_llama_cpp
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_in_llama_cpp_as_in_transformers(family: str, tmp_path: Path) -> None:
    program = server_command()
    assert program is not None
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    file, model, _ = written(family, tmp_path, tokenizer)
    ids = tokenizer(PROMPT)["input_ids"]
    with torch.no_grad():
        found = model.generate(
            torch.tensor([ids]), max_new_tokens=16, do_sample=False, eos_token_id=END, pad_token_id=PAD
        )
    with serving(file, program) as server:
        assert server.complete(ids, GREEDY, 0) == found[0, len(ids) :].tolist()
        assert [server.tokenize(text) for text in HARD_TEXTS] == tokenizer(list(HARD_TEXTS))["input_ids"]


@needs_llama_cpp
def test_a_sentencepiece_tokenizer_gives_the_same_ids_in_llama_cpp(tmp_path: Path) -> None:
    program = server_command()
    assert program is not None
    tokenizer = sentencepiece()
    file, _, vocabulary = written("mistral", tmp_path, tokenizer)
    texts = [
        "the customer waits for the 12 orders.",
        "waiting  for\nthe 7",
        "Größe",
        "<|user|>the order<|end|>",
    ]
    assert tokenizer_faults(file, vocabulary, tokenizer, texts) == []
    with serving(file, program) as server:
        for text in texts:
            assert server.tokenize(text) == tokenizer.encode(text, add_special_tokens=False), text


@pytest.mark.parametrize("type", ["f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"])
def test_every_type_gives_back_what_it_can_hold(type: str, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    file, model, _ = written("qwen3", tmp_path, tokenizer, type)
    round_as_stored(model, type)
    read, _ = read_model(file, ModelConfig(path=str(file)), model.config)
    for name, weight in read.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name
    assert file.stat().st_size < 1.25e6


def test_the_types_on_the_command_line_are_those_that_are_written() -> None:
    assert set(get_args(Quantization)) == set(TYPES)


# -- the command -------------------------------------------------------------------------------------------------------


def test_a_run_becomes_a_file_a_modelfile_and_a_card(full_run: Run, tmp_path: Path) -> None:
    done = rft_here(tmp_path, "export", full_run.path, "--format", "gguf", "--to", "out", "--json", "--quiet")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "model-F32.gguf",
        "Modelfile",
        "README.md",
        "rft-export.json",
    }
    assert (found["format"], found["dtype"], found["verified"]["from_float32"]) == ("gguf", "f32", None)
    assert found["verified"]["completions_equal"] == found["verified"]["prompts"] == 8
    assert found["verified"]["relative_difference"] <= found["verified"]["tolerance"] == 1e-5
    fields = Fields(out / "model-F32.gguf")
    assert fields.get("tokenizer.ggml.pre") == "smollm"
    assert fields.get("general.sampling.temp") == 0.0
    assert fields.get("tokenizer.ggml.eos_token_id") == END
    modelfile = (out / "Modelfile").read_text()
    assert "FROM ./model-F32.gguf\n" in modelfile
    assert 'PARAMETER stop "<|end|>"' in modelfile
    assert '{{- else if eq .Role "user" }}{{ "<|user|>" }}{{ .Content }}{{ "<|end|>" }}' in modelfile
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: gguf\n")
    assert "llama-server -m model-F32.gguf --jinja" in card


def test_lora_is_merged_and_quantised(tmp_path: Path) -> None:
    run = run_of(tmp_path, save_base(tmp_path / "base", FAMILIES["llama"]()), lora=True)
    done = rft_here(
        tmp_path, "export", run.path, "--format", "gguf", "--to", "out", "--quantize", "Q8_0", "--quiet"
    )
    assert done.code == 0, done.err
    assert "compared with the checkpoint, stored as q8_0" in done.out
    assert "q8_0 against float32:" in done.out
    assert f"llama-server -m {tmp_path / 'out' / 'model-Q8_0.gguf'}" in done.out


@needs_llama_cpp
def test_verify_grades_the_rows_in_llama_cpp(full_run: Run, tmp_path: Path) -> None:
    flags = ("--format", "gguf", "--to", "out", "--verify", "--json", "--quiet")
    done = rft_here(tmp_path, "export", full_run.path, *flags)
    assert done.code == 0, done.err
    found = json.loads(done.out)["regraded"]
    assert (found["engine"], found["agrees"], found["greedy_equal"]) == ("llama.cpp", True, 8)
    # Validation was greedy: the same texts, the same reward.
    assert found["reward"]["difference"]["mean"] == pytest.approx(0.0, abs=1e-9)


def test_verify_grades_the_rows_in_transformers(full_run: Run, tmp_path: Path) -> None:
    done = rft_here(tmp_path, "export", full_run.path, "--to", "out", "--verify", "--quiet")
    assert done.code == 0, done.err
    assert "through transformers" in done.out
    assert "difference +0.000 [+0.000, +0.000], paired" in done.out


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ("--format", "gguf", "--quantize", "Q4_K_M"),
            "llama-quantize DIR/model-F32.gguf DIR/model-Q4_K_M.gguf",
        ),
        (("--format", "gguf", "--quantize", "q8"), "did you mean 'q8_0'?"),
        (("--format", "gguf", "--dtype", "bfloat16"), "say --quantize f32, bf16 or f16"),
        (("--quantize", "q8_0"), "--quantize is for --format gguf, not merged"),
        (("--format", "ggml"), "take one of: merged, adapter, gguf"),
    ],
)
def test_wrong_flags_are_one_message(
    full_run: Run, tmp_path: Path, flags: tuple[str, ...], said: str
) -> None:
    done = rft_here(tmp_path, "export", full_run.path, "--to", "out", *flags)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert not (tmp_path / "out").exists()


def test_an_architecture_without_names_is_refused(tmp_path: Path) -> None:
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=256, eos_token_id=END, pad_token_id=PAD,
    )  # fmt: skip
    run = run_of(tmp_path, save_base(tmp_path / "base", GPTNeoXForCausalLM(config)), lora=False)
    done = rft_here(tmp_path, "export", run.path, "--format", "gguf", "--to", "out")
    assert (done.code, done.out) == (2, "")
    assert "rft writes no GGUF of a gpt_neox model" in done.err
    assert not (tmp_path / "out").exists()


def test_a_run_of_an_earlier_builtin_model_says_why_there_is_no_file(
    full_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def earlier(_: Any) -> Any:
        tokenizer = AutoTokenizer.from_pretrained(TINY)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        return tokenizer

    monkeypatch.setattr(exporter, "load_tokenizer", earlier)
    done = rft_here(tmp_path, "export", full_run.path, "--format", "gguf", "--to", "out")
    assert done.code == 2
    assert f"{full_run.path} began with builtin/tiny of an earlier rft" in done.err
    assert "train it again with this rft" in done.err


def damaged(monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], None]) -> None:
    """Let the writer put something else into the file than what the check wants."""
    write = exporting.write_gguf

    def other(file: Path, model: Any, content: Content) -> None:
        fields = {name: getattr(content.vocabulary, name) for name in content.vocabulary.__slots__}
        change(fields)
        vocabulary = type(content.vocabulary)(**fields)
        write(file, model, Content(content.name, vocabulary, content.sampling, content.type))

    monkeypatch.setattr(exporting, "write_gguf", other)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pre": "qwen2"}, "it splits text as 'qwen2', not as 'smollm'"),
        ({"merges": ["a n", "e r"]}, "its tokenizer gives other ids for"),
        ({"chat_template": None}, "its chat template is not the model's"),
        ({"stop": [5]}, "it ends completions at [5, None], not at [3]"),
        ({"pre": "unheard-of"}, "tokenizer.ggml.pre is 'unheard-of'"),
    ],
)
def test_a_wrong_tokenizer_or_template_cannot_pass(
    full_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str
) -> None:
    damaged(monkeypatch, lambda fields: fields.update(change))
    done = rft_here(tmp_path, "export", full_run.path, "--format", "gguf", "--to", "out")
    assert done.code == 3
    assert said in done.err
    assert list(tmp_path.iterdir()) == []


def test_other_weights_cannot_pass_and_a_full_disk_leaves_nothing(
    full_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = exporting.write_gguf

    def moved(file: Path, model: Any, content: Content) -> None:
        write(file, model, content)
        with torch.no_grad():
            model.model.norm.weight[0] += 0.25

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for broken, said in ((moved, "of its weights differ"), (full, "No space left on device")):
        monkeypatch.setattr(exporting, "write_gguf", broken)
        done = rft_here(tmp_path, "export", full_run.path, "--format", "gguf", "--to", "out")
        assert done.code == 3
        assert said in done.err
        assert list(tmp_path.iterdir()) == []


def test_of_several_templates_the_file_gets_the_one_without_tools() -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    default = tokenizer.chat_template
    tokenizer.chat_template = {"tool_use": "{{ tools }}", "default": default}
    assert vocabulary_of(tokenizer, VOCABULARY, [END]).chat_template == default


# -- parts -------------------------------------------------------------------------------------------------------------


def test_a_way_to_split_that_llama_cpp_has_not_gets_no_name() -> None:
    own = json.loads((Path(TINY) / "tokenizer.json").read_text())
    found = known_as(own)
    assert found is not None
    assert found.name == "smollm"
    assert known_as({**own, "pre_tokenizer": {"type": "Whitespace"}}) is None
    plain = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    gpt2 = known_as({**own, "pre_tokenizer": plain})
    assert gpt2 is not None
    assert gpt2.name == "gpt-2"
    assert known_as({"pre_tokenizer": plain, "model": {"ignore_merges": True}}) is None


def chatml(messages: Any, reply: bool) -> str:
    """With a system message of its own where the conversation has none, as SmolLM2's."""
    told = (
        messages
        if messages[0]["role"] == "system"
        else [{"role": "system", "content": "Be brief."}, *messages]
    )
    text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in told)
    return text + ("<|im_start|>assistant\n" if reply else "")


def test_fixed_texts_around_messages_are_found_and_written_for_ollama() -> None:
    turns = find_turns(chatml, "")
    assert turns is not None
    assert turns.around["user"] == ("<|im_start|>user\n", "<|im_end|>\n")
    assert turns.opening == "<|im_start|>system\nBe brief.<|im_end|>\n"
    assert ollama_template(turns).splitlines() == [
        '{{- if not .System }}{{ "<|im_start|>system\\nBe brief.<|im_end|>\\n" }}{{ end }}',
        "{{- range .Messages }}",
        '{{- if eq .Role "system" }}{{ "<|im_start|>system\\n" }}{{ .Content }}{{ "<|im_end|>\\n" }}',
        '{{- else if eq .Role "user" }}{{ "<|im_start|>user\\n" }}{{ .Content }}{{ "<|im_end|>\\n" }}',
        '{{- else if eq .Role "assistant" }}{{ "<|im_start|>assistant\\n" }}{{ .Content }}{{ "<|im_end|>\\n" }}',
        "{{- end }}",
        '{{- end }}{{ "<|im_start|>assistant\\n" }}',
    ]
    # One that counts its messages does more than put text around them.
    assert find_turns(lambda messages, reply: f"{len(messages)}:" + chatml(messages, reply), "") is None
