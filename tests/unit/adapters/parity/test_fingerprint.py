"""Recording at the end of training, in a plain loop and in transformers' Trainer."""

import subprocess
import sys

import peft
import pytest
import torch
from safetensors.torch import load_file

from adapters.errors import FingerprintInvalid
from adapters.parity import FingerprintCallback, fingerprint, record_fingerprint
from adapters.parity.fingerprint_file import FILE_NAME, parse_fingerprint
from adapters.parity.reference_revision import tensor_bytes
from tests.builders.micro_base import PROMPTS, live_adapter


def read(folder):
    return parse_fingerprint((folder / FILE_NAME).read_bytes())


def test_it_holds_what_training_made(trained, base):
    recorded = read(trained)

    assert len(recorded.modules) == 21
    module = recorded.modules["model.layers.0.self_attn.q_proj"]
    assert (module.scaling, module.rank) == (2.0, 4)
    assert len(recorded.answers) == len(PROMPTS)
    assert all(len(a.token_ids) == len(a.logprobs) > 0 for a in recorded.answers)
    assert recorded.base.dtype == "float32"
    assert recorded.base.name == base.name
    assert recorded.base.quantization is None
    assert set(recorded.versions) == {"torch", "transformers", "peft"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hashes_are_over_the_bytes_that_save_pretrained_writes(base, tokenizer, tmp_path, dtype):
    import hashlib

    model = live_adapter(base, dtype=dtype)
    model.save_pretrained(tmp_path)
    record_fingerprint(model, tokenizer, PROMPTS[:1], tmp_path)

    saved = load_file(tmp_path / "adapter_model.safetensors")
    for name, module in read(tmp_path).modules.items():
        for side, printed in (("A", module.a), ("B", module.b)):
            tensor = saved[f"base_model.model.{name}.lora_{side}.weight"]
            assert printed.sha256 == hashlib.sha256(tensor_bytes(tensor)).hexdigest()
            assert printed.shape == tuple(tensor.shape)


def test_what_the_base_says_of_the_same_tokens_is_recorded_as_a_control(trained, base):
    from adapters.parity.protocol import VerifyItem
    from adapters.parity.reference import Reference

    reference = Reference()
    reference.load_base(str(base), "float32")
    answers = read(trained).answers
    items = [VerifyItem("a", answer.prompt_token_ids, answer.token_ids) for answer in answers]

    for answer, row in zip(answers, reference.verify(None, items), strict=True):
        assert answer.base_logprobs == pytest.approx(row.token_logprobs, abs=1e-4)
        assert answer.base_logprobs != pytest.approx(answer.logprobs, abs=0.1)


def test_patterns_and_rslora_give_each_module_its_own_scaling(base, tokenizer, tmp_path):
    model = live_adapter(base, use_rslora=True, rank_pattern={"q_proj": 16})

    record_fingerprint(model, tokenizer, [], tmp_path)

    recorded = read(tmp_path)
    assert recorded.use_rslora
    assert recorded.modules["model.layers.0.self_attn.q_proj"].scaling == 2.0
    assert recorded.modules["model.layers.0.self_attn.k_proj"].scaling == 4.0
    assert recorded.answers == []


def test_the_model_is_left_as_it_was(base, tokenizer, tmp_path):
    model = live_adapter(base)
    model.train()
    model.base_model.model.lm_head.eval()
    frozen = next(weight for name, weight in model.named_parameters() if "lora_A" in name)
    frozen.requires_grad_(False)
    learns = [weight.requires_grad for weight in model.parameters()]
    before = {name: item.clone() for name, item in model.state_dict().items()}

    record_fingerprint(model, tokenizer, PROMPTS, tmp_path)

    assert model.training
    assert not model.base_model.model.lm_head.training
    assert [weight.requires_grad for weight in model.parameters()] == learns
    assert all(torch.equal(item, before[name]) for name, item in model.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_wrapped_model_is_unwrapped_and_prompts_may_be_conversations(base, tokenizer, tmp_path):
    class Wrapper(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    conversation = [{"role": "system", "content": "x"}, {"role": "user", "content": "hello"}]

    record_fingerprint(Wrapper(live_adapter(base)), tokenizer, [conversation], tmp_path)

    ids = read(tmp_path).answers[0].prompt_token_ids
    assert tokenizer.decode(ids) == "<s>system x</s><s>user hello</s><s>assistant "


def test_without_a_chat_template_the_text_itself_is_the_prompt(base, tokenizer, tmp_path):
    import copy

    plain = copy.deepcopy(tokenizer)
    plain.chat_template = None

    record_fingerprint(live_adapter(base), plain, ["hello"], tmp_path)

    assert tokenizer.decode(read(tmp_path).answers[0].prompt_token_ids) == "hello"


def test_what_is_no_live_lora_model_is_refused(base, tokenizer, tmp_path):
    model = live_adapter(base)

    with pytest.raises(FingerprintInvalid, match="no PEFT model"):
        record_fingerprint(model.get_base_model(), tokenizer, PROMPTS, tmp_path)
    with pytest.raises(FingerprintInvalid, match="not active"):
        record_fingerprint(model, tokenizer, PROMPTS, tmp_path, adapter_name="other")
    model.merge_adapter()
    with pytest.raises(FingerprintInvalid, match="merged"):
        record_fingerprint(model, tokenizer, PROMPTS, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_without_lora_modules_is_refused(base, tokenizer, tmp_path):
    from transformers import AutoModelForCausalLM

    config = peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[])
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)

    with pytest.raises(FingerprintInvalid):
        record_fingerprint(model, tokenizer, [], tmp_path)


def test_a_base_that_was_quantized_has_no_revision(base):
    model = live_adapter(base)
    weight = model.get_base_model().lm_head.weight
    weight.requires_grad_(False)
    model.get_base_model().lm_head.weight = torch.nn.Parameter(
        weight.to(torch.int8), requires_grad=False
    )

    printed = fingerprint._base_print(model)

    assert printed.revision is None
    assert printed.quantization == "unknown"


def test_the_trainer_records_beside_every_checkpoint_and_at_the_end(base, tokenizer, tmp_path):
    from transformers import Trainer, TrainingArguments

    ids = torch.randint(5, 300, (8, 12), generator=torch.Generator().manual_seed(1))
    rows = [{"input_ids": row, "labels": row} for row in ids]
    model = live_adapter(base)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=4,
        save_steps=2,
        per_device_train_batch_size=2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        logging_strategy="no",
        learning_rate=0.01,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        callbacks=[FingerprintCallback(tokenizer, PROMPTS[:1], max_new_tokens=4)],
    )

    trainer.train()
    trainer.save_model()

    from tests.unit.adapters.parity.test_fingerprint_check import codes

    assert codes(tmp_path) == []
    for step in (2, 4):
        assert codes(tmp_path / f"checkpoint-{step}") == []
    first = read(tmp_path / "checkpoint-2").modules
    assert first != read(tmp_path).modules
    assert model.training


def test_other_processes_of_a_distributed_run_write_nothing(base, tokenizer, tmp_path):
    class Arguments:
        output_dir = str(tmp_path)
        should_save = False

    callback = FingerprintCallback(tokenizer, PROMPTS)
    callback.on_train_end(Arguments(), None, None, model=live_adapter(base))

    assert list(tmp_path.iterdir()) == []


def test_importing_the_package_loads_no_torch():
    code = (
        "import sys, adapters.parity, adapters.parity.report, adapters.parity.export_check, "
        "adapters.parity.reference_client, adapters.parity.fingerprint_check; "
        "assert not {'torch', 'peft', 'transformers'} & set(sys.modules); "
        "assert adapters.parity.record_fingerprint and 'torch' in sys.modules"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    import adapters.parity

    with pytest.raises(AttributeError, match="nothing"):
        adapters.parity.nothing  # noqa: B018
