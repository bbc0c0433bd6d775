"""The card of an adapter on the hub: ``README.md`` with a YAML header, made from adapter, recipe and rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from fedclip_plugin.hub.stored_adapters import Repository
from fedclip_plugin.methods.registry import METHODS
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.runs import RoundRecord, SavedAdapter
from fedclip_plugin.runs.closing_table import silent_note, summary_rows, table_cells, zero_shot_warnings
from fedclip_plugin.runs.silo_scores import image_counts
from fedclip_plugin.text import markdown, percent, plain_markdown

_INSTALL = "`fedclip` comes with the package `fedclip-plugin`."
_ALWAYS = "It answers one of its labels whatever the picture shows."
_LIMITS = (
    "It works on its own backbone alone, which is checked by fingerprint, and has the limits and biases of that one.",
)


@dataclass(frozen=True)
class AdapterCard:
    """What is known of an adapter; ``recipe`` and ``rounds`` are those of its run, where there is one."""

    saved: SavedAdapter
    recipe: Recipe | None = None
    rounds: tuple[RoundRecord, ...] = ()

    def text(self, repository: Repository, license: str | None = None) -> str:
        """Return the card for a repository; ``license`` is the hub's name of one, such as ``apache-2.0``."""
        header = yaml.safe_dump(self._header(license), sort_keys=False, allow_unicode=True)
        parts = [
            f"---\n{header}---",
            f"# {self._title} for {plain_markdown(self.saved.backbone)}: {len(self.saved.classes)} labels",
            self._lead(),
            "## Accuracy",
            *self._accuracy(),
            "## Use",
            *_use(repository),
            "## How it was trained",
            markdown(self._training()),
            "## Limits",
            "\n".join(f"- {limit}" for limit in self._limits(license)),
        ]
        return "\n\n".join(parts) + "\n"

    @property
    def _title(self) -> str:
        return METHODS[self.saved.method].title

    def _header(self, license: str | None) -> dict[str, Any]:
        kinds = ["fedclip", "federated-learning", "clip", "adapter", self.saved.method.replace("_", "-")]
        header: dict[str, Any] = {"library_name": "fedclip", "pipeline_tag": "image-classification"}
        header["tags"] = list(dict.fromkeys(kinds))
        if license:
            header["license"] = license
        if Repository.parse(self.saved.backbone):
            header |= {"base_model": self.saved.backbone, "base_model_relation": "adapter"}
        return header | {"metrics": ["accuracy"]}

    def _lead(self) -> str:
        labels = ", ".join(plain_markdown(name) for name in self.saved.classes)
        silos = f" in {len(self.rounds[0].silos)} silos" if self.rounds else ""
        alone = self.recipe is not None and self.recipe.fedclip_args.federation == "local"
        how = "each by itself" if alone else "by federated learning: images stayed there, and adapters were averaged"
        return (
            f"A small adapter for a frozen CLIP, trained{silos} {how}. This is round {self.saved.round}.\n\n"
            f"Labels: {labels}."
        )

    def _accuracy(self) -> list[str]:
        if not self.rounds or self.recipe is None:
            known = [(name.replace("_", " "), value) for name, value in sorted(self.saved.metrics.items())]
            known = [(name, value) for name, value in known if name not in ("epsilon", "delta")]
            rows = [[plain_markdown(name), percent(value)] for name, value in known if isinstance(value, float)]
            return [markdown([["accuracy in %", ""], *rows]) if rows else "Nothing was measured of it."]
        target, first = self.recipe.fedclip_args.target_domain, self.rounds[0]
        images, scores = image_counts(self.rounds, "test"), summary_rows(self.rounds, self._title)
        counts = ", ".join(f"{plain_markdown(name)} {count}" for name, count in images.items())
        unseen = f" The target is a domain that no silo trained on ({first.images_target} images)." if target else ""
        numbers = {self.rounds[-1].round: "the last round", self.rounds[-1].best_round: "the best round"}
        which = numbers.get(self.saved.round, f"round {self.saved.round}")
        return [
            markdown(table_cells(scores, target)),
            f"The silos' columns are their own test images ({counts}).{unseen} One run, seed "
            f"{self.recipe.common_args.random_seed}. The best round is that of the highest mean accuracy on the silos' "
            f"validation images; this adapter is {which}.",
            *(
                plain_markdown(sentence[0].upper() + sentence[1:]) + "."
                for sentence in (silent_note(scores), *zero_shot_warnings(self.rounds))
                if sentence
            ),
        ]

    def _training(self) -> Sequence[Sequence[str]]:
        rows = [
            ("method", f"{self._title} ({self.saved.method})"),
            ("backbone", f"{self.saved.backbone}, {self.saved.precision}"),
            ("fingerprint of the backbone", self.saved.fingerprint),
            ("prompt", self.saved.prompt_template),
            ("digest of the recipe", self.saved.recipe_digest),
        ]
        if self.recipe is not None:
            train, ours = self.recipe.train_args, self.recipe.fedclip_args
            rows += [
                ("silos", str(train.client_num_in_total)),
                ("silos that train in a round", str(train.client_num_per_round)),
                ("rounds, and epochs in each", f"{train.comm_round}, {train.epochs}"),
                ("learning rate, weight decay", f"{train.learning_rate:g}, {train.weight_decay:g}"),
                ("batch size", str(train.batch_size)),
                ("weighting of the silos", ours.weighting),
                ("seed", str(self.recipe.common_args.random_seed)),
                ("everything else", "recipe.yaml"),
            ]
        return [("", "value"), *rows]

    def _limits(self, license: str | None) -> list[str]:
        known = self.rounds[-1].privacy_spent if self.rounds else {}  # all rounds took part in the choice of this one
        noise = "no noise was added to them"
        if spent := known or self.saved.privacy_spent:
            noise = (
                f"training, over all rounds among which this one was chosen, gave each image of a silo's training "
                f"split differential privacy with epsilon {spent['epsilon']:.3g} and delta {spent['delta']:g}"
            )
        unsaid = [] if license else ["No license is given: ask the owner of this repository."]
        revealed = f"Updates of an adapter can reveal something of the images that it was trained on; {noise}."
        return [self._unknown(), *_LIMITS, revealed, *unsaid]

    def _unknown(self) -> str:
        own = self.saved.calibration
        if own is None or not own.threshold:
            return _ALWAYS
        known = f"{100 * own.false_reject_rate:g} % of the silos' {own.images} validation images"
        return (
            f"An answer with a probability below {own.threshold:.3g} is unknown, as {known} were; pictures of other "
            "things may be above it."
        )


def _use(repository: Repository) -> list[str]:
    return [
        _INSTALL,
        f"```console\n$ fedclip pull {repository}          # once, with a network\n"
        f"$ fedclip predict {repository} picture.jpg\n```",
        "```python\nfrom fedclip_plugin import Classifier\n\n"
        f'classifier = Classifier.load("{repository}")\nclassifier.predict(["picture.jpg"])\n```',
    ]
