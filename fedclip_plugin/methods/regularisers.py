"""What a recipe adds to the loss of a method so that it stays near zero-shot CLIP."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

from fedclip_plugin.features import TextFeatures
from fedclip_plugin.methods.base import Adapter
from fedclip_plugin.methods.losses import PADDING, scores


@dataclass(frozen=True)
class Regularisers:
    """Terms that are added to the loss of every batch; 0 adds none.

    Class features are computed once for the method's own loss and once for these terms: a method that trains through
    the text tower passes it twice a step.

    Attributes
    ----------
    zero_shot_distillation
        Weight of :func:`distillation`, which needs features: for methods on pixels there are none.
    text_pull
        Weight of :func:`text_distance`.
    class_cross_entropy
        Whether the cross entropy over all classes takes the place of the method's own loss.
    """

    zero_shot_distillation: float = 0.0
    text_pull: float = 0.0
    class_cross_entropy: bool = False

    def __bool__(self) -> bool:
        return bool(self.zero_shot_distillation or self.text_pull)

    def loss(
        self, adapter: Adapter, inputs: Tensor, labels: Tensor, text: TextFeatures, padded: bool = False
    ) -> Tensor:
        """Return the method's own loss of a batch and the terms, a scalar; parameters as for ``Adapter.loss``."""
        if self.class_cross_entropy:
            total = cross_entropy(adapter.logits(inputs, text), labels, ignore_index=PADDING)
        else:
            total = adapter.loss(inputs, labels, text, **({"padded": True} if padded else {}))
        if not self:
            return total
        classes = adapter.class_features(text)
        if self.zero_shot_distillation:
            teacher = scores(normalize(inputs, dim=-1), text.features, text.logit_scale)
            student = scores(adapter(inputs), classes, adapter.scale(text))
            total = total + self.zero_shot_distillation * distillation(teacher, student, labels)
        if self.text_pull:
            total = total + self.text_pull * text_distance(classes, text.features)
        return total


def distillation(teacher: Tensor, student: Tensor, labels: Tensor) -> Tensor:
    """Return the mean divergence of the student's answers from the teacher's, ``KL(teacher || student)``, a scalar.

    The temperature is 1. With zero-shot CLIP as the teacher this is the term by which TRIP (IEEE TIP 2025) keeps what
    CLIP knows.

    Parameters
    ----------
    teacher, student
        Logits ``[B, C]``.
    labels
        ``[B]``; rows of label :data:`~fedclip_plugin.methods.losses.PADDING` count for nothing.
    """
    each = distillations(teacher, student)
    there = (labels != PADDING).to(each)
    return (each * there).sum() / there.sum()


def distillations(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the divergence of each image's answer, ``[B]``, from logits ``[B, C]``; see :func:`distillation`."""
    known, own = teacher.log_softmax(-1), student.log_softmax(-1)
    return (known.exp() * (known - own)).sum(-1)


def text_distance(classes: Tensor, text: Tensor) -> Tensor:
    """Return the mean cosine distance of trained class features from CLIP's own, both ``[C, d]``, a scalar.

    The term of KgCoOp (Yao et al., CVPR 2023, arXiv 2303.13283).
    """
    return (1 - cosine_similarity(classes, text, dim=-1)).mean()
