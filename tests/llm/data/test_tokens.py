"""Labels on answers only, and a score that generates what the model really would."""

import pytest
import torch
from transformers import DataCollatorForSeq2Seq, GenerationConfig

from lorakappa.llm.data.pretraining import character_tokenizer, new_model
from lorakappa.llm.data.splits import Example
from lorakappa.llm.data.tokens import encode, exact_match
from tests.llm.models import with_lora


@pytest.fixture(scope="module")
def tokenizer():
    return character_tokenizer()


def test_the_loss_is_on_the_answer_and_the_end_only(tokenizer):
    (entry,) = encode([Example("1+1?\n", "2")], tokenizer, 20)
    assert tokenizer.decode(entry["input_ids"]) == "1+1?\n2<eos>"
    assert entry["labels"] == [-100] * 5 + entry["input_ids"][5:]
    assert entry["attention_mask"] == [1] * 7
    batch = DataCollatorForSeq2Seq(tokenizer)(encode([Example("1+1?\n", "2"), Example("?", "12")], tokenizer, 20))
    assert batch["labels"][1].tolist() == [
        -100,
        *tokenizer("12")["input_ids"],
        tokenizer.eos_token_id,
        -100,
        -100,
        -100,
    ]
    assert batch["attention_mask"][1].tolist() == [1, 1, 1, 1, 0, 0, 0]


def test_prompts_do_not_count_in_the_loss(tokenizer):
    """The gradient of the logits is 0 wherever the next token belongs to the prompt or the padding."""
    model = new_model(tokenizer, hidden_size=16, layers=1)
    batch = DataCollatorForSeq2Seq(tokenizer)(encode([Example("ab", "cd"), Example("abcd", "e")], tokenizer, 20))
    output = model(**batch)
    output.logits.retain_grad()
    output.loss.backward()
    counted = output.logits.grad.abs().sum(-1) > 0
    assert counted.tolist() == [[False, True, True, True, False, False], [False, False, False, True, True, False]]


class Start:
    """A tokenizer that adds a start and an end token by itself, as some do."""

    bos_token_id, eos_token_id = 300, 1

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, text, add_special_tokens=True):
        ids = self.inner(text, add_special_tokens=False)["input_ids"]
        return {"input_ids": [300, *ids, 1] if add_special_tokens else ids}


def test_a_start_token_comes_first_and_no_end_token_in_between(tokenizer):
    (entry,) = encode([Example("a", "b")], Start(tokenizer), 20)
    a, b = tokenizer("ab")["input_ids"]
    assert entry["input_ids"] == [300, a, b, 1]
    assert entry["labels"] == [-100, -100, b, 1]


def test_long_examples_are_left_out_never_cut(tokenizer):
    examples = [Example("ab", "c"), Example("ab", "cdefgh")]
    with pytest.warns(UserWarning, match="1 of 2 examples have more than 5 tokens and are left out; the longest has 9"):
        kept = encode(examples, tokenizer, 5)
    assert kept == encode(examples[:1], tokenizer, 4)
    with pytest.raises(ValueError, match="2 of 2 examples have more than 3 tokens; the longest has 9"):
        encode(examples, tokenizer, 3)
    with pytest.raises(ValueError, match="completion of 'a' is empty"):
        encode([Example("a", "")], tokenizer, 3)
    assert encode([], tokenizer, 5) == []


@pytest.fixture(scope="module")
def copier(tokenizer):
    """A small model that has learned some answers by heart."""
    torch.manual_seed(0)
    model = new_model(tokenizer, hidden_size=32, layers=2)
    examples = [Example(letter * i, letter.upper() * (1 + i % 3)) for i, letter in enumerate("abcdefghijkl", 1)]
    batch = DataCollatorForSeq2Seq(tokenizer)(encode(examples, tokenizer, 40))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
    assert loss < 0.02
    return model, examples


def test_exact_match_pads_on_the_left(tokenizer, copier):
    model, examples = copier
    assert exact_match(model, tokenizer, examples, batch_size=12) == 1
    assert exact_match(model, tokenizer, examples, batch_size=5) == 1
    wrong = [Example(e.prompt, e.completion + "x") if i < 3 else e for i, e in enumerate(examples)]
    assert exact_match(model, tokenizer, wrong, batch_size=4) == 0.75
    spaced = [Example(e.prompt, f" {e.completion}\n") for e in examples]
    assert exact_match(model, tokenizer, spaced, batch_size=4) == 1
    longer = [e for e in examples if len(e.completion) > 1]
    assert exact_match(model, tokenizer, longer, batch_size=4, max_new_tokens=1) == 0
    with pytest.raises(ValueError, match="at least one"):
        exact_match(model, tokenizer, [], batch_size=4)


def test_exact_match_leaves_everything_as_it_was(tokenizer, copier):
    model, examples = copier
    model.train()
    model.model.layers[0].eval()
    model.generation_config = GenerationConfig(do_sample=True, temperature=9.0, repetition_penalty=5.0, pad_token_id=0)
    before = model.generation_config.to_dict(), tokenizer.padding_side
    assert exact_match(model, tokenizer, examples, batch_size=4) == 1
    assert (model.generation_config.to_dict(), tokenizer.padding_side) == before
    assert model.training
    assert not model.model.layers[0].training
    assert model.model.layers[1].training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_exact_match_uses_the_adapter(tokenizer, copier):
    model, examples = copier
    adapted = with_lora(model)
    assert exact_match(adapted, tokenizer, examples, batch_size=4) == 1
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    assert exact_match(adapted, tokenizer, examples, batch_size=4) < 1
    with adapted.disable_adapter():
        assert exact_match(adapted, tokenizer, examples, batch_size=4) == 1
