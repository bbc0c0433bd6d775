"""A FedML user's own main: the pair under FedML's own runner, as docs/fedml.md has it."""

import fedml
from fedml import FedMLRunner

import fedclip_plugin

if __name__ == "__main__":
    args = fedml.init()
    device = fedml.device.get_device(args)
    dataset, model, trainer, aggregator = fedclip_plugin.build(args, device)
    FedMLRunner(args, device, dataset, model, trainer, aggregator).run()
