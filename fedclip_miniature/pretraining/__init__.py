"""The pretraining of clip-tiny on drawings (imports torch and transformers)."""

from fedclip_miniature.pretraining.model_card import PretrainReport, model_card
from fedclip_miniature.pretraining.pretrain import IMAGES, STEPS, pretrain
from fedclip_miniature.pretraining.zero_shot_check import zero_shot, zero_shot_table

__all__ = ["IMAGES", "STEPS", "PretrainReport", "model_card", "pretrain", "zero_shot", "zero_shot_table"]
