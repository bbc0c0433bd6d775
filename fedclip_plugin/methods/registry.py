"""The table of methods, free of torch: recipes are checked against it, adapters are built from it.

A method's entry says all that is asked of it before its module is imported. Other packages add entries through the
entry-point group ``fedclip_plugin.methods``; see ``docs/adding_a_method.md``.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from fedclip_plugin.errors import MethodError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from fedclip_plugin.backbone.configs.backbone_config import BackboneConfig

ZERO_SHOT = "zero_shot"
"""What every method may start from."""

GROUP = "fedclip_plugin.methods"
"""The entry-point group in which packages register methods."""

CLIP_ADAPTER_REDUCTION = 4
"""CLIP-Adapter's bottleneck is d / 4 wide."""

PROMPT_VECTORS = 16
"""Context vectors of a prompt whose template has no words to replace: CoOp's own number."""

LORA_TARGETS = ("q_proj", "v_proj")
"""LoRA's projections, in every layer of a tower."""

LORA_RANK = 4
"""Rank r of LoRA's matrices; higher fits the silos more closely and sends more bytes."""


FAMILIES = ("clip", "siglip", "open_clip")
"""Every kind of backbone."""


def _nothing(*sizes: Any) -> int:
    return 0


@dataclass(frozen=True)
class Method:
    """What one federated method is called, where it comes from, what it trains, and what that takes.

    Attributes
    ----------
    name
        The value of ``fedclip_args.method`` in a recipe.
    title
        Its name in tables and plots.
    source
        The paper or the code it follows.
    trains
        What moves between silos and server, in words.
    adapter
        Where its class is, ``package.module:Class``; a :class:`~fedclip_plugin.methods.base.Adapter`.
    inputs
        What a silo trains on: ``features``, encoded once, or ``pixels`` for methods that change the image tower.
    parameters
        From a CLIP's size and the number of classes to the number of parameters that are trained and sent.
    activations
        From a CLIP's size, the number of classes and the batch size to the bytes that a training step keeps for its
        backward pass; 0 where they do not weigh, as on features.
    sums
        Of a closed-form method, which is solved from sums over the silos' images in one round: from a CLIP's size and
        the number of classes to how many numbers a silo sends. None for methods that are trained.
    takes
        Which of the recipe's keys that do not suit every method suit this one: ``text_pull``, which needs trained class
        features, and ``wise``, which needs a start that is zero-shot CLIP.
    starts
        What its training may start from besides zero-shot CLIP (``fedclip_args.start``): the name of a closed-form
        method, whose solution is the first round, to the class that trains it further, as ``adapter`` names one.
    image_gradients
        Whether the loss of an image depends on that image alone, so that its gradient can be clipped, in closed form
        (:func:`~fedclip_plugin.methods.image_gradients.clipped_sum`): all that is trained are layers of class
        ``torch.nn.Linear``, each used once a pass, on ``[B, d]``.
    families
        The kinds of backbones that it works with, by ``BackboneConfig.family``.
    """

    name: str
    title: str
    source: str
    trains: str
    adapter: str
    inputs: Literal["features", "pixels"] = "features"
    parameters: Callable[[BackboneConfig, int], int] = _nothing
    activations: Callable[[BackboneConfig, int, int], int] = _nothing
    takes: tuple[str, ...] = ()
    starts: Mapping[str, str] = field(default_factory=dict)
    families: tuple[str, ...] = FAMILIES
    sums: Callable[[BackboneConfig, int], int] | None = None
    image_gradients: bool = False

    @property
    def private(self) -> bool:
        """Whether differential privacy of single images can be accounted for it."""
        return self.image_gradients or self.sums is not None

    @property
    def rounds(self) -> int | None:
        """How many rounds it takes; None where the recipe says."""
        return None if self.sums is None else 1

    @property
    def on_pixels(self) -> bool:
        """Whether it trains the image tower, so that images cannot be encoded once and for all."""
        return self.inputs == "pixels"


class MethodTable(UserDict[str, Any]):
    """Methods by name.

    Which packages register some is looked up at the first question, which takes a while; what they register is
    imported when it is asked for.
    """

    def __init__(self, built_in: Iterable[Method], registered: Callable[[], Iterable[EntryPoint]] = tuple) -> None:
        self._built_in, self._registered = built_in, registered

    @cached_property
    def data(self) -> dict[str, Any]:  # type: ignore[override]  # an attribute of UserDict, made at once there
        """The methods that are built in, and tuples of those that are registered and were not asked for yet."""
        found: dict[str, Any] = {method.name: method for method in self._built_in}
        for entry in self._registered():
            known = found.get(entry.name, ())
            found[entry.name] = (*(known if isinstance(known, tuple) else (known,)), entry)
        return found

    def __getitem__(self, name: str) -> Method:
        """Return a method; a MethodError when a package registers it wrongly, or several register it."""
        found = self.data[name]
        method: Method = _registered(name, found) if isinstance(found, tuple) else found
        self.data[name] = method
        return method


def _registered(name: str, entries: tuple[EntryPoint | Method, ...]) -> Method:
    """Return the method that an entry point names."""
    owners = ["fedclip-plugin" if isinstance(entry, Method) else f"package {_package(entry)}" for entry in entries]
    if len(entries) > 1:
        raise MethodError(
            f"method {name!r} is registered by {' and '.join(owners)}; a name belongs to one: uninstall a package, or "
            f"rename its entry point in the group {GROUP}"
        )
    (entry,) = entries
    assert not isinstance(entry, Method), "what is built in is no tuple"
    told = f"{owners[0]} registers method {name!r} as {entry.value}"
    try:
        method = entry.load()
    except Exception as error:  # whatever the module of another package raises
        raise MethodError(
            f"{told}, which cannot be imported ({type(error).__name__}: {error}); mend or uninstall it"
        ) from error
    if not isinstance(method, Method):
        raise MethodError(f"{told}, which is {type(method).__name__}, no fedclip_plugin.methods.Method; mend it")
    if method.name != name:
        raise MethodError(f"{told}, whose name is {method.name!r}; give entry point and method one name")
    return method


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.module


def _gate_parameters(size: BackboneConfig, classes: int) -> int:
    return 2 * size.dim * (size.dim + 1)


def _class_sums(size: BackboneConfig, classes: int) -> int:
    return classes * (size.dim + 1)


def _all_sums(size: BackboneConfig, classes: int) -> int:
    return _class_sums(size, classes) + size.dim * (size.dim + 1) // 2


def _generator_parameters(width: int, dim: int) -> int:
    return 14 * width**2 + 2 * dim * width + (PROMPT_VECTORS + 18) * width + 2 * dim


def _every_prompt(size: BackboneConfig, classes: int, batch: int) -> int:
    return classes * size.text.kept_bytes


_CAUSAL_TEXT = ("clip",)
"""Families whose text tower is causal, and ends a prompt at its end marker."""

_BUILT_IN = (
    Method(
        name="zero_shot",
        title="Zero-shot CLIP",
        source="Radford et al., CLIP, ICML 2021, arXiv 2103.00020",
        trains="nothing",
        adapter="fedclip_plugin.methods.zero_shot:ZeroShot",
    ),
    Method(
        name="fedclip",
        title="FedCLIP",
        source="Lu et al., FedCLIP, IEEE Data Eng. Bull. 2023; microsoft/PersonalizedFL, fedclip/",
        trains="attention gate on the image feature, 2 (d^2 + d) parameters",
        adapter="fedclip_plugin.methods.attention_gate:AttentionGate",
        parameters=_gate_parameters,
        image_gradients=True,
    ),
    Method(
        name="sigmoid_gate",
        title="Sigmoid gate",
        source="FedCLIP's gate with a sigmoid in place of the softmax, zero-initialised",
        trains="gate on the image feature that starts at zero-shot CLIP, 2 (d^2 + d) parameters",
        adapter="fedclip_plugin.methods.sigmoid_gate:SigmoidGate",
        parameters=_gate_parameters,
        takes=("wise",),
        image_gradients=True,
    ),
    Method(
        name="clip_adapter",
        title="CLIP-Adapter",
        source="Gao et al., CLIP-Adapter, IJCV 2024, arXiv 2110.04544",
        trains="residual bottleneck on the image feature, d^2 / 2 parameters",
        adapter="fedclip_plugin.methods.clip_adapter:ClipAdapter",
        parameters=lambda size, classes: 2 * size.dim * max(1, size.dim // CLIP_ADAPTER_REDUCTION),
        image_gradients=True,
    ),
    Method(
        name="linear_probe",
        title="Linear probe",
        source="Radford et al., CLIP, ICML 2021, section 3.2; rows start as in Wortsman et al., arXiv 2109.01903",
        trains="a linear classifier that starts at the text features, C d parameters",
        adapter="fedclip_plugin.methods.linear_probe:LinearProbe",
        parameters=lambda size, classes: classes * size.dim,
        takes=("text_pull", "wise"),
        starts={"ridge": "fedclip_plugin.methods.linear_probe:RidgeProbe"},
        image_gradients=True,
    ),
    Method(
        name="ridge",
        title="Ridge (Fed3R)",
        source="Fani et al., Fed3R, ICML 2024, arXiv 2406.01116; with zero-shot CLIP's logits added",
        trains="nothing: one round of counts, class sums and a Gram matrix, solved by the server",
        adapter="fedclip_plugin.methods.closed_form.adapters:Ridge",
        parameters=lambda size, classes: classes * size.dim + 1,
        sums=_all_sums,
    ),
    Method(
        name="ncm",
        title="Class means (FedNCM)",
        source="Legate et al., FedNCM, NeurIPS 2023, arXiv 2303.12767; with zero-shot CLIP's logits added",
        trains="nothing: one round of counts and class sums, C (d + 1) numbers",
        adapter="fedclip_plugin.methods.closed_form.adapters:ClassMeans",
        parameters=lambda size, classes: classes * size.dim + 1,
        sums=_class_sums,
    ),
    Method(
        name="gda",
        title="Gaussian (CLIP-GDA)",
        source="Wang et al., ICLR 2024, arXiv 2402.04087; federated by the sums of FedCGS, arXiv 2503.06962",
        trains="nothing: the one round of ridge, solved as Gaussians of one covariance",
        adapter="fedclip_plugin.methods.closed_form.adapters:Gaussian",
        parameters=lambda size, classes: classes * (size.dim + 1) + 1,
        sums=_all_sums,
    ),
    Method(
        name="prompt",
        title="Prompt (CoOp)",
        source="Zhou et al., CoOp, IJCV 2022, arXiv 2109.01134; federated as PromptFL, arXiv 2208.11625",
        trains="the words before the class name, through the text tower, M w parameters",
        adapter="fedclip_plugin.methods.text_tower.prompt:Prompt",
        # At most, for templates of up to 16 words; their number is known only to the tokenizer.
        parameters=lambda size, classes: PROMPT_VECTORS * size.text.width,
        activations=_every_prompt,
        takes=("text_pull", "wise"),
        families=_CAUSAL_TEXT,
    ),
    Method(
        name="text_lora",
        title="Text LoRA (FLoRA)",
        source="Nguyen et al., FLoRA, 2024, arXiv 2404.15182",
        trains="matrices of rank 4 on the text tower's query and value projections, 16 w parameters a layer",
        adapter="fedclip_plugin.methods.text_tower.text_lora:TextLora",
        parameters=lambda size, classes: size.text.layers * len(LORA_TARGETS) * 2 * LORA_RANK * size.text.width,
        activations=_every_prompt,
        takes=("text_pull", "wise"),
        families=_CAUSAL_TEXT,
    ),
    Method(
        name="prompt_generator",
        title="Prompt generator (FedTPG)",
        source="Qiu et al., FedTPG, ICLR 2024, arXiv 2310.06123; its output is added to the template's words",
        trains="a network that makes the words before the class names, 14 w^2 + 2 d w parameters and some",
        adapter="fedclip_plugin.methods.text_tower.prompt_generator:PromptGenerator",
        # At most, for templates of up to 16 words; their number is known only to the tokenizer.
        parameters=lambda size, classes: _generator_parameters(size.text.width, size.dim),
        activations=_every_prompt,
        takes=("text_pull", "wise"),
        families=_CAUSAL_TEXT,
    ),
    Method(
        name="lora",
        title="LoRA",
        source="Hu et al., LoRA, ICLR 2022, arXiv 2106.09685",
        trains="matrices of rank 4 on the image tower's query and value projections, 16 w parameters a layer",
        adapter="fedclip_plugin.methods.lora:Lora",
        inputs="pixels",
        parameters=lambda size, classes: size.vision.layers * len(LORA_TARGETS) * 2 * LORA_RANK * size.vision.width,
        activations=lambda size, classes, batch: batch * size.vision.kept_bytes,
        takes=("wise",),
        families=("clip", "siglip"),  # by the names that transformers gives to the layers
    ),
    Method(
        name="full",
        title="Full fine-tuning",
        source="FedAVG in Lu et al., FedCLIP, IEEE Data Eng. Bull. 2023; microsoft/PersonalizedFL, fedclip/",
        trains="all of CLIP, both towers",
        adapter="fedclip_plugin.methods.full:Full",
        inputs="pixels",
        parameters=lambda size, classes: size.parameters,
        activations=lambda size, classes, batch: batch * (size.vision.kept_bytes + size.text.kept_bytes),
        takes=("wise",),
        families=("clip",),  # its loss is CLIP's, in which a SigLIP's bias has no gradient
    ),
)


def _entry_points() -> Iterable[EntryPoint]:
    from importlib.metadata import distributions, entry_points

    # Looked for in the texts first: ``entry_points`` parses those of every installed package, in three times the time.
    if any(GROUP in (found.read_text("entry_points.txt") or "") for found in distributions()):
        return entry_points(group=GROUP)
    return ()


METHODS = MethodTable(_BUILT_IN, _entry_points)
"""Every method by name; a method missing here cannot be named in a recipe."""


def require_family(name: str, config: BackboneConfig, backbone: str) -> None:
    """Refuse a method that does not work with a backbone; the MethodError says which do."""
    if config.family in METHODS[name].families:
        return
    others = ", ".join(other for other in METHODS if config.family in METHODS[other].families)
    raise MethodError(
        f"method {name!r} does not work with backbone {backbone!r}, of kind {config.title}: take one of {others}, or "
        "the backbone of a CLIP in the transformers layout, such as openai/clip-vit-base-patch32"
    )
