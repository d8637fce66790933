# ruff: noqa: E501 - the catalogue is a table
"""What can be wrong with an adapter: the finding and the catalogue of every code.

Codes are stable public slugs; docs/findings.md lists them, which a test checks. Who finds what is
in `preflight` and its neighbours; here is only the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """A blocking finding refuses the adapter; the others are told to people."""

    BLOCKING = "blocking"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class FindingKind:
    """One code: how bad it is, what it means, and how to cure it."""

    code: str
    severity: Severity
    meaning: str
    fix: str


_TABLE = """
# Files of the folder
config_missing|blocking|The folder has no adapter_config.json.|Upload the file that PEFT's save_pretrained wrote beside the weights.
tensors_missing|blocking|The folder has no adapter_model.safetensors.|Save with PEFT's default safe_serialization=True; sharded files have to be joined.
pickled_weights|blocking|The weights are a pickle, which can run code when it is opened.|Save as adapter_model.safetensors.
file_ignored|info|A file that is no part of an adapter's artifact; it is not uploaded.|Nothing to do.
tokenizer_ignored|warning|The adapter brings a tokenizer or chat template that differs from the base's; the engine uses the base's.|Train with the base's tokenizer and template, or send prompts that are already formatted.
fingerprint_absent|info|No loraplane_fingerprint.json: nothing independent vouches that the files are what was trained.|Call record_fingerprint at the end of training.
# adapter_config.json
config_unreadable|blocking|adapter_config.json is not one JSON object of the expected types.|Write it with PEFT's save_pretrained and do not edit it by hand.
config_field_unknown|blocking|A field that no supported PEFT version defines has a value, so its effect is not known.|Remove the field, or export with a supported PEFT version.
config_field_unknown_empty|info|A field that no supported PEFT version defines, without a value.|Nothing to do.
config_field_unsupported|blocking|A PEFT feature that the engine does not compute.|Train without the feature, or convert the adapter to plain LoRA.
peft_type_unsupported|blocking|peft_type is not LORA; the engine would read the tensors as LoRA all the same.|Train a LoRA adapter, or convert this one.
task_type_unsupported|blocking|The adapter is not for causal language models.|Train with task_type CAUSAL_LM.
rank_invalid|blocking|A rank is not a whole number of at least 1.|Restore the rank that the adapter was trained with.
rank_above_limit|blocking|A rank is larger than the engine's slots.|Raise max_rank on the fleet, or train with a smaller rank.
alpha_invalid|blocking|lora_alpha is not a positive finite number: the adapter would do nothing, or the opposite.|Restore the alpha that the adapter was trained with.
scaling_unusual|warning|The effective scaling is far from what training recipes use; alpha or use_rslora may have been changed after training.|Compare lora_alpha, r and use_rslora with the training run.
pattern_invalid|blocking|A key of rank_pattern or alpha_pattern is no regular expression, or one that can take for ever to match.|Name the modules plainly; the engine evaluates these patterns in its serving loop.
pattern_unused|warning|A key of rank_pattern or alpha_pattern matches no module of the file.|Check that the config and the weights come from one export.
target_modules_absent|blocking|target_modules is empty; the engine needs it and nothing says which modules were trained.|Restore target_modules from the training run.
target_pattern_unchecked|warning|target_modules is a regular expression too costly to evaluate here, so completeness is judged by symmetry of the layers.|Name the modules as a list.
base_name_missing|info|The config does not name its base model.|Set base_model_name_or_path at training.
base_name_differs|warning|The config names another base model than the fleet serves.|Check that the adapter was trained on the served base, at the same revision.
dora_unsupported|blocking|DoRA scales by a learned magnitude that the engine does not apply.|Train with use_dora=False.
bias_unsupported|blocking|Trained biases would be dropped by the engine.|Train with bias="none".
lora_bias_unsupported|blocking|A bias on lora_B is not computed by the engine.|Train with lora_bias=False.
modules_to_save_unsupported|blocking|Fully trained modules would not be served.|Train without modules_to_save.
init_changes_base|blocking|This initialisation (PiSSA, OLoRA, CorDA, LoftQ) changes the base weights, which the fleet shares.|Convert with PEFT's path_initial_model_for_weight_conversion.
alora_unsupported|blocking|Activated LoRA changes when the adapter applies; the engine would always apply it.|Train plain LoRA.
token_training_unsupported|blocking|Trained token embeddings would not be served.|Train without trainable_token_indices.
# The tensor file
tensors_unreadable|blocking|adapter_model.safetensors is not a well-formed safetensors file.|Export again; compare the size with the original, the file may be cut off.
tensors_empty|blocking|The file holds no LoRA tensor.|Save the trained adapter, not the base model.
tensor_unsupported|blocking|A tensor that is neither lora_A.weight nor lora_B.weight.|Save with PEFT's save_pretrained from a plain LoRA model.
magnitude_tensor|blocking|A DoRA magnitude vector is in the file, whatever the config says.|Train with use_dora=False.
bias_tensor|blocking|A bias tensor is in the file.|Train with bias="none" and lora_bias=False.
base_layer_tensor|blocking|A base layer's own weight is in the file: it was changed or saved with the adapter.|Save with save_embedding_layers=False, and train without resizing embeddings.
embedding_tensor|blocking|Embedding or output-head tensors are in the file; the engine keeps the base's.|Save with save_embedding_layers=False; adapt neither embeddings nor head.
dtype_unsupported|blocking|A tensor's number type is not F32, F16, BF16 or F64.|Save the adapter as float32, float16 or bfloat16.
tensor_not_matrix|blocking|A LoRA tensor does not have two dimensions.|Export again from the trained model.
# Names against the base
module_prefix_off|blocking|Module names don't start at the base's root; the engine would skip the tensors and answer with the base model.|Save from the same model class that is served (AutoModelForCausalLM); names must read base_model.model.<module of the base>.
module_unknown|blocking|The base has no such module; the engine would skip it silently.|Train on the served base model.
layer_beyond_base|blocking|A layer that the base does not have; the engine would skip it silently.|Train on the served base model.
layer_missing|blocking|The config's targets include this layer, but the file has no tensor of it.|Export again; or set layers_to_transform when only some layers were trained.
module_missing|blocking|The config's targets include this module, but the file has no tensor of it.|Export again from the trained model.
layers_uneven|warning|Some layers have fewer adapted modules than others.|Check that the export is complete.
module_not_targeted|blocking|The file has tensors for a module that the config does not target; PEFT would drop them, the engine would apply them.|Use config and weights of one export.
target_outside_engine|blocking|A module that the engine does not wrap; its part would be dropped.|Add the module to the engine's target modules, or train without it.
# Shapes
pair_incomplete|blocking|Only one of lora_A and lora_B is present.|Export again from the trained model.
ab_swapped|blocking|lora_A and lora_B are exchanged.|Rename: A is (rank, in), B is (out, rank).
tensor_transposed|blocking|The matrices are transposed.|Store A as (rank, in) and B as (out, rank).
ranks_disagree|blocking|lora_A and lora_B of one module have different ranks.|Export again from the trained model.
rank_differs|blocking|The tensors' rank is not the config's; the engine would scale them wrongly.|Use config and weights of one export.
base_smaller|blocking|The adapter was trained on a smaller base; the engine would pad it with zeros.|Train on the served base model.
base_larger|blocking|The adapter was trained on a larger base.|Train on the served base model.
shape_differs|blocking|The tensor's shape fits no reading of this module.|Train on the served base model.
# Values
value_not_finite|blocking|A tensor holds NaN or infinity, which can poison other tenants' answers.|Train again with a lower learning rate or gradient clipping.
value_overflows|blocking|A value, or value times scaling, is infinite in the engine's number type.|Serve in bfloat16 or float32, or train with smaller weights.
adapter_inert|blocking|Every module's contribution is exactly zero: the answers would be the base model's.|Check that the trained weights were saved, not the initial ones.
module_inert|warning|This module contributes exactly nothing.|Check that the module was trained.
value_underflows|warning|All values of a tensor become zero in the engine's number type.|Serve in bfloat16 or float32.
"""


def _catalogue() -> dict[str, FindingKind]:
    rows = [line.split("|") for line in _TABLE.strip().splitlines() if not line.startswith("#")]
    return {
        code: FindingKind(code, Severity(severity), meaning, fix)
        for code, severity, meaning, fix in rows
    }


KINDS: dict[str, FindingKind] = _catalogue()
"""Every code that preflight can give."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found, where, and what would have been right.

    `where` is a module, tensor, field or file name; `found` and `allowed` are short and JSON-ready.
    """

    code: str
    where: str | None = None
    found: Any = None
    allowed: Any = None

    def __post_init__(self) -> None:
        if self.code not in KINDS:
            raise KeyError(self.code)

    @property
    def severity(self) -> Severity:
        """How bad it is; fixed per code."""
        return KINDS[self.code].severity

    @property
    def is_blocking(self) -> bool:
        """Whether it refuses the adapter."""
        return self.severity is Severity.BLOCKING

    @property
    def fix(self) -> str:
        """What the uploader can do."""
        return KINDS[self.code].fix

    def to_json(self) -> dict[str, Any]:
        """All that a person or program needs, as JSON values."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "meaning": KINDS[self.code].meaning,
            "where": self.where,
            "found": self.found,
            "allowed": self.allowed,
            "fix": self.fix,
        }
