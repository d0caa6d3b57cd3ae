"""Means to a precision: the driver is killed again and again, at every stage; other numbers of workers go on."""

from pathlib import Path

from tests.chaos import scene

STUDY = """
name = "chaos"
model = "net.keras"
dataset = "data.npz"
seeds = 40
precision = 0.25

[[family]]
name = "noise"
perturb = [ { op = "gaussian", scale = [0.1, 0.2, 0.3] } ]
"""


@scene.LONG
def test_a_driver_killed_at_every_stage_leaves_the_same_rows(place: Path):
    Path("chaos.toml").write_text(STUDY)
    env = scene.environment()
    with scene.running("--out", "undisturbed", "--workers", "2", env=env) as process:
        assert process.wait(scene.PATIENCE) == 0
    expected = scene.results("undisturbed")
    assert len(expected) > 3000
    deaths = 0
    for seen, workers in [(1, 2), (3, 1), (8, 2), (16, 1), (30, 2), (45, 2)]:
        with scene.running("--out", "run", "--workers", str(workers), "--chunk", "60", env=env) as process:
            scene.until(lambda: process.poll() is not None or len(scene.shards()) > seen)  # noqa: B023
            deaths += process.poll() is None
            process.kill()
    assert deaths >= 4
    with scene.running("--out", "run", "--chunk", "500", env=env) as process:
        assert process.wait(scene.PATIENCE) == 0
    scene.check(Path("run"), expected)
    assert not scene.left(env[scene.MARK])
