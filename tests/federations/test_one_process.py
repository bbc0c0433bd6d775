"""A federation in one process ends as the same federation under mpirun."""

from fedclip_plugin.federated.job_here import run_job_here
from fedclip_plugin.fitting import _Progress
from fedclip_plugin.recipe import load_recipe
from fedclip_plugin.runs import RunFolder
from tests.support.workshop import results


def test_a_run_in_one_process_has_the_bytes_of_mpirun(happy, happy_recipe, tmp_path, fresh_fedml):
    folder = RunFolder(tmp_path / "run")
    run_job_here(load_recipe(happy_recipe), folder, resume=False, progress=False, observer=_Progress(3, shown=False))
    for name in ("best", "final"):
        for file in ("adapter.json", "adapter.safetensors"):
            own, other = (place.adapters / name / file for place in (folder, happy.folder))
            assert own.read_bytes() == other.read_bytes()
    assert results(folder.rounds()) == results(happy.lines)
    assert [line.bytes_up for line in folder.rounds()[2:]] == [line.bytes_up for line in happy.lines[2:]]
