"""Checkpoints: what is saved comes back bit for bit, and what is damaged is refused by name."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxrnn import eval as eval_command
from jaxrnn import predict
from jaxrnn.runs import checkpoint
from jaxrnn.runs.checkpoint import MANIFEST_NAME, Checkpointer, CheckpointError, named_leaves

# Orbax stores smaller arrays inline, with its metadata.
BYTES_STORED_INLINE = 1024


def make_tree(seed: int = 0) -> dict:
    generator = np.random.default_rng(seed)
    return {
        "weights": {"large": jnp.asarray(generator.normal(size=(40, 50)), jnp.float32), "bias": jnp.zeros(3)},
        "count": jnp.int32(7),
        "flags": jnp.asarray([True, False]),
        "half": jnp.asarray([1.5, -0.0, 3e38], jnp.bfloat16),
        "special": jnp.asarray([np.nan, np.inf, -np.inf, 1e-45], jnp.float32),
        "key": jax.random.key(seed + 5),
        "keys": jax.random.split(jax.random.key(seed), 3),
        "module": nnx.state(nnx.Dropout(0.5, rngs=nnx.Rngs(seed))),
    }


def assert_same_bits(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (name, a), b in zip(named_leaves(got).items(), named_leaves(expected).values(), strict=True):
        assert a.dtype == b.dtype, name
        assert a.shape == b.shape, name
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), name


@pytest.fixture
def saved(tmp_path) -> Path:
    """A directory with steps 1 and 2."""
    with Checkpointer(tmp_path / "steps") as checkpointer:
        for step in (1, 2):
            checkpointer.save(step, make_tree(step), {"epoch": step})
    return tmp_path / "steps"


def largest_file(directory: Path) -> Path:
    path = max((path for path in directory.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    assert path.stat().st_size > BYTES_STORED_INLINE
    return path


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


class TestRoundTrip:
    def test_every_leaf_comes_back_bit_for_bit(self, saved):
        template = jax.eval_shape(lambda: make_tree())
        with Checkpointer(saved, read_only=True) as checkpointer:
            for step in (1, 2):
                assert_same_bits(checkpointer.restore(step, template), make_tree(step))
                assert checkpointer.read_metadata(step)["epoch"] == step

    def test_restored_keys_draw_the_same_numbers(self, saved):
        with Checkpointer(saved, read_only=True) as checkpointer:
            restored = checkpointer.restore(1, make_tree())
        np.testing.assert_array_equal(
            jax.random.normal(restored["key"], (5,)), jax.random.normal(make_tree(1)["key"], (5,))
        )

    def test_a_part_can_be_restored(self, saved):
        with Checkpointer(saved, read_only=True) as checkpointer:
            part = {"count": jnp.int32(0), "weights": {"bias": jnp.ones(3)}}
            assert_same_bits(checkpointer.restore(2, part), {"count": jnp.int32(7), "weights": {"bias": jnp.zeros(3)}})

    def test_relative_directory(self, saved, monkeypatch):
        monkeypatch.chdir(saved.parent)
        with Checkpointer(saved.name, read_only=True) as checkpointer:
            assert checkpointer.steps() == [1, 2]

    def test_metadata_is_plain_json(self, tmp_path):
        metadata = {"text": "ä\n\x7f", "list": [1, 2.5, None, True], "nested": {"a": {}}}
        with Checkpointer(tmp_path) as checkpointer:
            checkpointer.save(1, {"a": jnp.zeros(2)}, metadata)
            assert checkpointer.read_metadata(1) == {"format_version": checkpoint.FORMAT_VERSION, **metadata}


class TestSteps:
    def test_latest_two_are_kept(self, tmp_path):
        with Checkpointer(tmp_path) as checkpointer:
            for step in (1, 2, 5, 9):
                checkpointer.save(step, make_tree(step), {})
            assert checkpointer.steps() == [5, 9]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["5", "9"]

    def test_an_existing_step_is_never_overwritten(self, saved):
        with Checkpointer(saved) as checkpointer:
            with pytest.raises(CheckpointError, match=r"step 2 exists already; it is never overwritten"):
                checkpointer.save(2, make_tree(99), {})
            assert_same_bits(checkpointer.restore(2, make_tree()), make_tree(2))

    @pytest.mark.parametrize("missing", ["commit_success.txt", MANIFEST_NAME])
    def test_unfinished_step_is_not_listed_and_hinders_no_save(self, saved, missing):
        (saved / "2" / missing).unlink()
        with Checkpointer(saved, read_only=True) as checkpointer:
            assert checkpointer.steps() == [1]
        with Checkpointer(saved) as checkpointer:
            assert checkpointer.steps() == [1]
            checkpointer.save(2, make_tree(3), {})
            assert checkpointer.steps() == [1, 2]
            assert_same_bits(checkpointer.restore(2, make_tree()), make_tree(3))

    def test_reading_changes_nothing(self, saved):
        (saved / "2" / "commit_success.txt").unlink()
        before = {path: path.is_file() and path.read_bytes() for path in saved.rglob("*")}
        with Checkpointer(saved, read_only=True) as checkpointer:
            checkpointer.restore(1, make_tree())
        assert {path: path.is_file() and path.read_bytes() for path in saved.rglob("*")} == before

    def test_no_directory(self, tmp_path):
        with pytest.raises(CheckpointError, match="nowhere: no checkpoints here"):
            Checkpointer(tmp_path / "nowhere", read_only=True)
        assert not (tmp_path / "nowhere").exists()

    def test_directory_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(CheckpointError, match="file"):
            Checkpointer(tmp_path / "file" / "steps")


def restore_both(directory: Path, step: int) -> None:
    with Checkpointer(directory, read_only=True) as checkpointer:
        checkpointer.read_metadata(step)
        checkpointer.restore(step, make_tree())


class TestDamage:
    def test_flipped_bit(self, saved):
        victim = largest_file(saved / "2")
        flip_bit(victim)
        with pytest.raises(CheckpointError) as caught:
            restore_both(saved, 2)
        assert str(caught.value).startswith(f"{victim}: is not what was written")
        assert str(saved) in str(caught.value)
        restore_both(saved, 1)

    def test_truncated_file(self, saved):
        victim = largest_file(saved / "2")
        victim.write_bytes(victim.read_bytes()[:-1])
        with pytest.raises(CheckpointError, match=f"{victim.name}: is not what was written"):
            restore_both(saved, 2)

    def test_any_single_file_deleted(self, saved):
        names = [path.relative_to(saved / "2") for path in (saved / "2").rglob("*") if path.is_file()]
        assert len(names) > 5
        for name in names:
            copy = saved.parent / "copy"
            shutil.copytree(saved, copy)
            (copy / "2" / name).unlink()
            with Checkpointer(copy, read_only=True) as checkpointer, pytest.raises(CheckpointError) as caught:
                checkpointer.restore(2, make_tree())
            assert str(name) in str(caught.value)
            shutil.rmtree(copy)

    @pytest.mark.parametrize("change", ["a digit of a sum", "a file left out"])
    def test_a_manifest_that_was_changed_is_named_itself(self, saved, change):
        manifest = saved / "2" / MANIFEST_NAME
        digests = json.loads(manifest.read_text())
        name = str(largest_file(saved / "2").relative_to(saved / "2"))
        digest = digests.pop(name)
        if change == "a digit of a sum":
            digests[name] = ("1" if digest[0] == "0" else "0") + digest[1:]
        manifest.write_text(json.dumps(digests))
        with pytest.raises(CheckpointError) as caught:
            restore_both(saved, 2)
        assert str(caught.value).startswith(f"{manifest}: is missing or not what was written")

    def test_manifest_that_is_no_json_object(self, saved):
        for content in ("", "{", "[]", "7", '{"a": 1}', '{"../../../x": "0"}'):
            (saved / "2" / MANIFEST_NAME).write_text(content)
            with pytest.raises(CheckpointError):
                restore_both(saved, 2)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"count": np.int16(0)}, "array count: got int32 of shape (); expected int16 of shape ()"),
            ({"flags": np.zeros(2, np.int8)}, "array flags: got bool of shape (2,); expected int8"),
            ({"special": np.zeros(5, np.float32)}, "array special: got float32 of shape (4,); expected float32"),
            ({"half": np.zeros((3, 1), jnp.bfloat16)}, "expected bfloat16 of shape (3, 1)"),
            ({"weights": {"large": np.zeros((50, 40), np.float32)}}, "array weights/large: got float32 of"),
            ({"other": np.zeros(1)}, "has no array other; it has count, flags, half, key"),
            ({"count": jax.random.key(0)}, "array count: got int32 of shape (); expected uint32 of shape (2,)"),
        ],
    )  # fmt: skip
    def test_array_of_another_kind(self, saved, change, message):
        with Checkpointer(saved, read_only=True) as checkpointer, pytest.raises(CheckpointError) as caught:
            checkpointer.restore(2, make_tree() | change)
        assert message in str(caught.value)
        assert str(saved / "2") in str(caught.value)

    def test_format_of_the_future(self, tmp_path, monkeypatch):
        monkeypatch.setattr(checkpoint, "FORMAT_VERSION", 9)
        with Checkpointer(tmp_path) as checkpointer:
            checkpointer.save(1, {"a": jnp.zeros(2)}, {"versions": {"jaxrnn": "7.0"}})
            monkeypatch.undo()
            with pytest.raises(CheckpointError, match=r"format 9; this version reads 1; use the jaxrnn .*7\.0"):
                checkpointer.read_metadata(1)


class TestCommands:
    """What a damaged checkpoint looks like to a user."""

    @pytest.fixture
    def run_copy(self, trained_run, tmp_path):
        return Path(shutil.copytree(trained_run, tmp_path / "run"))

    @pytest.fixture
    def step(self, run_copy):
        return next((run_copy / "checkpoints").iterdir())

    def check_refused(self, run_copy, capsys, texts):
        (run_copy.parent / "rows.csv").write_text("1,2,3\n")
        for main, arguments in (
            (eval_command.main, [f"--data={run_copy.parent / 'rows.csv'}"]),
            (predict.main, [str(run_copy.parent / "rows.csv")]),
        ):
            assert main([f"--checkpoint={run_copy}", *arguments]) == 2
            out, err = capsys.readouterr()
            assert out == ""
            assert err.startswith("error: ")
            assert "Traceback" not in err
            for text in texts:
                assert text in err

    def test_intact_copy_is_accepted(self, run_copy, capsys):
        assert eval_command.main([f"--checkpoint={run_copy}", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["rows"] > 0

    def test_flipped_bit(self, run_copy, step, capsys):
        victim = largest_file(step / "arrays")
        flip_bit(victim)
        self.check_refused(run_copy, capsys, [victim.name, "is not what was written"])

    def test_truncated_metadata(self, run_copy, step, capsys):
        victim = step / "metadata" / "metadata"
        victim.write_bytes(victim.read_bytes()[:-5])
        self.check_refused(run_copy, capsys, [str(victim), "is not what was written"])

    def test_deleted_file(self, run_copy, step, capsys):
        victim = largest_file(step / "arrays")
        victim.unlink()
        self.check_refused(run_copy, capsys, [str(victim), "is missing"])

    @pytest.mark.parametrize("name", [MANIFEST_NAME, "commit_success.txt"])
    def test_step_that_is_not_whole(self, run_copy, step, capsys, name):
        (step / name).unlink()
        self.check_refused(run_copy, capsys, [str(run_copy), "no whole checkpoint"])

    def test_empty_checkpoints_directory(self, run_copy, step, capsys):
        shutil.rmtree(step)
        self.check_refused(run_copy, capsys, ["no whole checkpoint"])
