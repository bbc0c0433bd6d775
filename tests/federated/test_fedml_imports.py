"""FedML as our ranks import it: without what no federation over MPI uses, and clear where that is used after all."""

import json
import subprocess
import sys

import pytest

from fedclip_plugin.federated.fedml_imports import UNUSED

HEAVY = {
    *("torchvision", "torch._dynamo", "wandb", "boto3", "pandas", "redis", "sqlalchemy", "fastapi"),
    *("docker", "paho", "scipy", "pkg_resources", "setuptools", "transformers"),
}


def said(*lines):
    """Return what a fresh interpreter prints that runs ``lines``."""
    program = "\n".join(["import json, sys", *lines])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def rank():
    """What a process has done that imports FedML as a rank does: one step, and then uses of what was left out."""
    return said(
        "from fedclip_plugin.errors import FedClipError",
        "from fedclip_plugin.federated.fedml_imports import UNUSED, import_fedml",
        "import_fedml()",
        "import torch",
        "import fedclip_plugin.federated.job",
        "from fedclip_plugin.federated.roles.adam import Adam",
        "weight = torch.nn.Parameter(torch.ones(3))",
        "weight.square().sum().backward()",
        "Adam([weight], 0.1, 0.0).step()",
        f"heavy = sorted({HEAVY!r} & set(sys.modules))",
        "from importlib import import_module",
        "from fedml.core.security.attack.dlg_attack import DLGAttack",
        "from fedml.core.distributed.communication.s3.remote_storage import S3Storage",
        "told = []",
        "class Derived(DLGAttack): pass",
        "named = [DLGAttack, Derived, lambda: S3Storage.upload_file]",
        "for use in (*named, *(import_module(name).Anything for name in UNUSED)):",
        "    try: use()",
        "    except FedClipError as error: told.append(str(error))",
        "print(json.dumps({'weight': weight.tolist(), 'heavy': heavy, 'told': told}))",
    )


def test_a_rank_imports_none_of_it_before_its_first_step(rank):
    assert rank["weight"] != [1.0, 1.0, 1.0]
    assert rank["heavy"] == []


def test_what_is_used_after_all_says_how_to_get_it(rank):
    told = rank["told"]
    assert len(told) == 3 + len(UNUSED)
    assert "without fedml.core.security.attack.dlg_attack" in told[0]
    assert "DLGAttack was asked for; start the recipe from a main of your own" in told[0]
    assert "without fedml.core.security.attack.dlg_attack" in told[1]
    assert "Derived was asked for" in told[1]
    assert "S3Storage.upload_file was asked for" in told[2]


def test_a_main_that_imports_fedml_itself_has_all_of_it():
    assert said(
        "import os; os.environ['WANDB_MODE'] = 'disabled'",
        "import contextlib, io, warnings; warnings.simplefilter('ignore')",
        "import fedml",
        "from fedclip_plugin.federated.fedml_imports import UNUSED, import_fedml",
        "import_fedml()",
        "import fedclip_plugin.federated.job",
        "from fedml.core.security.attack.dlg_attack import DLGAttack",
        "print(json.dumps([all(sys.modules[name].__file__ for name in UNUSED), DLGAttack.__module__]))",
    ) == [True, "fedml.core.security.attack.dlg_attack"]


def test_what_a_recipe_may_ask_for_is_the_real_thing():
    """Each defence that a recipe may name, and wandb's tracking."""
    defences, tracked = said(
        "import os; os.environ['WANDB_MODE'] = 'disabled'",
        "import contextlib, warnings; warnings.simplefilter('ignore')",
        "from types import SimpleNamespace",
        "from typing import get_args",
        "from fedclip_plugin.federated.fedml_imports import import_fedml",
        "from fedclip_plugin.recipe.schema.fedml_defences import DefenseArgs",
        "import_fedml()",
        "import fedml",
        "from fedml.core.security.fedml_defender import FedMLDefender",
        "made = []",
        "with contextlib.redirect_stdout(sys.stderr):",
        "    for name in get_args(DefenseArgs.model_fields['defense_type'].annotation):",
        "        args = SimpleNamespace(enable_defense=True, defense_type=name, norm_bound=1.0)",
        "        args.byzantine_client_num, args.krum_param_m, args.client_num_per_round = 1, 2, 8",
        "        defender = FedMLDefender()",
        "        defender.init(args)",
        "        made.append(type(defender.defender).__name__)",
        "    tracking = {'enable_wandb': True, 'wandb_project': 'p', 'wandb_only_server': True}",
        "    fedml._manage_profiling_args(SimpleNamespace(**tracking, rank=0, process_id=0))",
        "print(json.dumps([made, sys.modules['wandb'].run is not None]))",
    )
    assert defences == ["KrumDefense", "KrumDefense", "NormDiffClippingDefense"]
    assert tracked
