"""The ``fedclip`` command with a rank misbehaving.

``python misbehaving_rank.py DEED[,KEY=VALUE...] run RECIPE ...``

A deed is done by rank ``rank`` (2) in round ``round`` (2, counted from 1 as people do). Nothing of this is in the
product: the deeds wrap the pair's methods from outside, as a faulty silo would be faulty from inside.
"""

import atexit
import functools
import os
import signal
import sys
import time


def deeds():
    """Return the table of deeds: name to (class, method, what happens in its place)."""
    from fedclip_plugin.federated.fedml_imports import import_fedml

    import_fedml()
    from fedclip_plugin.federated.managers.silo import FedClipSilo
    from fedclip_plugin.federated.roles.trainer import FedClipTrainer

    def raising(*_):
        raise ValueError("the silo's disk went away")

    def dying(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def frozen(original, message):
        original(message)
        time.sleep(0.2)  # until the server has it: what freezes is a silo that owes nothing
        os.kill(os.getpid(), signal.SIGSTOP)

    def late(original, *arguments):
        time.sleep(0.3)
        return original(*arguments)

    training = FedClipTrainer, "train"
    return {
        "raise": (*training, raising),
        "freeze": (FedClipSilo, "send_message", frozen),
        "kill": (*training, dying),
        "late": (*training, late),
    }


def stay(here):
    """Freeze this rank when all is done, if it is the one; the server waits two seconds for it, and not a minute."""
    from fedclip_plugin.cli import run

    leave = run.leave

    def _leave():
        os.kill(os.getpid(), signal.SIGSTOP)
        leave()

    run._LEAVE_SECONDS = 2.0
    run.leave = _leave if here else leave


def sabotage(word):
    """Wrap the method that the deed in ``word`` names."""
    name, *settings = word.split(",")
    chosen = dict(setting.split("=") for setting in settings)
    rank, number = int(chosen.get("rank", 2)), chosen.get("round", "2")
    here = int(os.environ["OMPI_COMM_WORLD_RANK"]) == rank
    if name == "stay":
        stay(here)
    elif here:
        wrap(name, number)


def wrap(name, number):
    """Do a deed in a round, or in ``all`` of them."""
    owner, method, deed = deeds()[name]
    original = getattr(owner, method)

    @functools.wraps(original)
    def wrapped(self, *arguments):
        if number == "all" or getattr(self.args, "round_idx", 0) + 1 == int(number):
            return deed(functools.partial(original, self), *arguments)
        return original(self, *arguments)

    setattr(owner, method, wrapped)


if __name__ == "__main__":
    import warnings

    warnings.filterwarnings("ignore")
    from fedclip_plugin.cli.main import main
    from fedclip_plugin.ranks import share_cores

    share_cores()
    sabotage(sys.argv[1])
    atexit.register(lambda: print("imported transformers:", "transformers" in sys.modules, file=sys.stderr, flush=True))
    sys.exit(main(sys.argv[2:]))
