"""A main of one's own for a simulation: the pair under FedML's own runner, or ours where ``OURS`` is set."""

import os

import fedml
import torch
from fedml import FedMLRunner

import fedclip_plugin
from fedclip_plugin.federated.managers.runner import FedClipRunner

if __name__ == "__main__":
    args = fedml.init()
    device = torch.device("cpu")  # fedml.device.get_device wants a GPU mapping of simulations, on a CPU too
    runner = FedClipRunner if "OURS" in os.environ else FedMLRunner
    runner(args, device, *fedclip_plugin.build(args, device)).run()
