"""Parameters and whole runs in files: to the bit, and never half a file."""

import errno
import fcntl
import functools
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from cases import random_params

import jaxrnn
from jaxrnn import _files, checkpoint, data


@functools.lru_cache
def make(dtype=jnp.float32, hidden_size=5):
    model = jaxrnn.stack(
        jaxrnn.layer(jaxrnn.lstm(hidden_size)),
        jaxrnn.bidirectional(jaxrnn.gru(4), jaxrnn.elman(3)),
        jaxrnn.dense(2),
    )
    return random_params(0, model, dtype)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
def test_round_trip_is_exact(tmp_path, dtype):
    params, path = make(dtype), tmp_path / "params.safetensors"
    checkpoint.save_params(path, params, {"cell": "lstm"})
    loaded = checkpoint.load_params(path, jax.eval_shape(lambda: params))
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(params), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert checkpoint.load_metadata(path) == {"cell": "lstm"}
    assert [file.name for file in tmp_path.iterdir()] == ["params.safetensors"]


def test_leaves_carry_the_names_of_the_parameters(tmp_path):
    path = tmp_path / "params"
    checkpoint.save_params(path, make())
    assert "[1].forward.b_h" in safetensors.numpy.load_file(path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    params, path = make(), tmp_path / "params"
    checkpoint.save_params(path, params)
    before = path.read_bytes()
    with pytest.raises(Exception, match="str"):
        checkpoint.save_params(path, params, {"number": 1})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_and_links_are_kept(tmp_path):
    path, link = tmp_path / "params", tmp_path / "link"
    checkpoint.save_params(path, make())
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    assert path.stat().st_mode == ordinary.stat().st_mode
    path.chmod(0o640)
    link.symlink_to(path)
    before = path.read_bytes()
    checkpoint.save_params(link, make(), {"a": "b"})
    assert link.is_symlink()
    assert path.read_bytes() != before
    assert path.stat().st_mode & 0o777 == 0o640


def test_leaves_of_one_path_are_refused(tmp_path):
    @jax.tree_util.register_pytree_with_keys_class
    class Twins:
        def tree_flatten_with_keys(self):
            key = jax.tree_util.GetAttrKey("same")
            return [(key, jnp.zeros(1)), (key, jnp.ones(1))], None

        @classmethod
        def tree_unflatten(cls, aux, children):
            return cls()

    with pytest.raises(ValueError, match="a different path for each leaf"):
        checkpoint.save_params(tmp_path / "params", Twins())
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_made(tmp_path):
    path = tmp_path / "runs" / "today" / "params"
    checkpoint.save_params(path, make())
    assert [file.name for file in path.parent.iterdir()] == ["params"]


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path):
    path = tmp_path / ("n" * 255)
    checkpoint.save_params(path, {"w": np.ones(3)})
    assert checkpoint.load_params(path, {"w": np.zeros(3)})["w"].sum() == 3


def test_what_a_killed_write_left_behind_is_deleted_by_the_next(tmp_path):
    path = tmp_path / "params"
    left, other = (
        _files._prefix(path.with_name(name)) + "0.tmp" for name in ("params", "other")
    )
    (tmp_path / left).write_text("half")
    (tmp_path / other).write_text("of another path")
    with open(tmp_path / other) as file:
        checkpoint.save_params(path, make())
        assert sorted(f.name for f in tmp_path.iterdir()) == sorted(["params", other])
        # A write that is going on in another process holds a lock on its file.
        fcntl.flock(file, fcntl.LOCK_EX)
        checkpoint.save_params(tmp_path / "other", make())
        assert (tmp_path / other).exists()
    checkpoint.save_params(tmp_path / "other", make())
    assert sorted(f.name for f in tmp_path.iterdir()) == ["other", "params"]


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*params'"):
        checkpoint.save_params(tmp_path / "params", make())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        ({"steps": 3}, TypeError, r"metadata\['steps'\] must be a string, got 3"),
        ({3: "steps"}, TypeError, "metadata must have strings as keys, got 3"),
        ("lstm", TypeError, "metadata must be a dict of strings, got 'lstm'"),
        ({"jaxrnn.format": "9"}, ValueError, "begin with jaxrnn., got 'jaxrnn.format'"),
    ],
)
def test_metadata_that_cannot_be_kept_are_named(tmp_path, metadata, error, message):
    with pytest.raises(error, match=message):
        checkpoint.save_params(tmp_path / "params", make(), metadata)
    assert not list(tmp_path.iterdir())


def test_every_flipped_bit_is_found(tmp_path):
    path, like = tmp_path / "params", {"w": np.arange(3.0), "n": np.int8(1)}
    checkpoint.save_params(path, like, {"cell": "lstm"})
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"damaged|was not written by"):
            checkpoint.load_params(path, like)


def test_an_unwritable_place_is_an_os_error(tmp_path):
    (tmp_path / "occupied").write_text("a file, not a folder")
    with pytest.raises(OSError, match="occupied"):
        checkpoint.save_params(tmp_path / "occupied" / "params", make())


def truncated(path):
    path.write_bytes(path.read_bytes()[:-10])


def text(path):
    path.write_text("not parameters at all")


def foreign(path):
    safetensors.numpy.save_file({"w": np.zeros(3)}, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, "not a safetensors file, or damaged"),
        (text, "not a safetensors file, or damaged"),
        (foreign, "was not written by jaxrnn.checkpoint"),
        (lambda path: path.write_bytes(b""), "not a safetensors file, or damaged"),
    ],
)
def test_damaged_and_foreign_files_are_refused(tmp_path, damage, message):
    path = tmp_path / "params"
    checkpoint.save_params(path, make())
    damage(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        checkpoint.load_params(path, make())
    assert path.read_bytes() == before


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file.*params"):
        checkpoint.load_params(tmp_path / "params", make())


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (
            lambda: make(hidden_size=6),
            r"\[0\]\.w_x must have shape \(2, 24\) and dtype float32, got \(2, 20\)",
        ),
        (lambda: make(jnp.bfloat16), r"\[0\]\.w_x .* dtype bfloat16, got .* float32"),
        (lambda: (*make(), make()[0]), r"must hold the parameter \[3\]\.w_x"),
        (lambda: make()[:2], r"hold only .*, got \[2\]\.b, \[2\]\.w too"),
    ],
)
def test_parameters_of_another_model_are_refused(tmp_path, like, message):
    path = tmp_path / "params"
    checkpoint.save_params(path, make())
    with pytest.raises(ValueError, match=message):
        checkpoint.load_params(path, like())


# Whole runs


def make_state(impl=None):
    return {
        "key": jax.random.key(3, impl=impl),
        "keys": jax.random.split(jax.random.key(4, impl=impl), 2),
        "params": make(),
        "position": 2**40,
        "best": 0.1,
        "done": True,
    }


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
@pytest.mark.parametrize("x64", [True, False])
def test_a_state_comes_back_to_the_bit(tmp_path, impl, x64):
    path = tmp_path / "run"
    with jax.enable_x64(x64):
        state = make_state(impl)
        checkpoint.save_state(path, state)
        loaded = checkpoint.load_state(path, make_state(impl) | {"position": 0})
    assert loaded["position"] == 2**40
    assert (loaded["best"], loaded["done"]) == (0.1, True)
    assert type(loaded["position"]) is int
    for name in ("key", "keys"):
        assert loaded[name].dtype == state[name].dtype
        np.testing.assert_array_equal(
            jax.random.key_data(loaded[name]), jax.random.key_data(state[name])
        )
    for a, b in zip(
        jax.tree.leaves(loaded["params"]), jax.tree.leaves(state["params"]), strict=True
    ):
        np.testing.assert_array_equal(a, b)


NUMBERS = {
    "statistics": data.statistics(np.array([[1.7e9], [1.7e9 + 300]])),
    "seen": np.int64(5_000_000_000),
    "huge": [2**70, -(2**63), 0, -1],
    "python": (0.1, True, 3 - 0.1j, float("nan"), float("-inf")),
    "scalars": [np.float64(0.1), np.uint8(7), np.bool_(True), np.complex128(1j)],
    "arrays": {
        "zero-dimensional": np.array(0.1),
        "empty": np.zeros((0, 3)),
        "columns": np.arange(12.0).reshape(3, 4)[:, ::2],
        "big-endian": np.arange(3, dtype=">f8"),
        "complex": np.array([1 + 2j, 3], np.complex64),
        "dates": np.array(["2026-01-01", "NaT"], "datetime64[s]"),
        "longdouble": np.array([1, 3], np.longdouble) / 3,
        "integers": np.array([[2**63]], np.uint64),
    },
    "jax": [jnp.array([1.5, -0.0], jnp.bfloat16), jnp.array([7, -8], jnp.int4)],
}


@pytest.mark.parametrize("x64", [True, False])
@pytest.mark.parametrize("content", ["params", "state"])
def test_every_number_comes_back_to_the_bit(tmp_path, x64, content):
    path = tmp_path / "numbers"
    save, load = (getattr(checkpoint, f"{verb}_{content}") for verb in ("save", "load"))
    with jax.enable_x64(x64):
        save(path, NUMBERS)
        loaded = load(path, NUMBERS)
    assert jax.tree.structure(loaded) == jax.tree.structure(NUMBERS)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(NUMBERS), strict=True):
        assert type(a) is type(b)
        if hasattr(b, "dtype"):
            a, b = np.asarray(a), np.asarray(b)
            assert (a.dtype.name, a.shape) == (b.dtype.name, b.shape)
            b = b.astype(a.dtype)
            assert a.tobytes() == b.tobytes()
        else:
            assert repr(a) == repr(b)


def test_a_state_is_expected_by_its_shapes(tmp_path):
    path, state = tmp_path / "run", {"key": jax.random.key(0), "w": jnp.ones(2)}
    checkpoint.save_state(path, state)
    loaded = checkpoint.load_state(path, jax.eval_shape(lambda: state))
    assert jax.random.key_data(loaded["key"]).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"position": 0.0}, r"\['position'\] must be float, got int"),
        ({"key": jnp.zeros(2, jnp.uint32)}, r"\['key'\] must be array, got key<fry>"),
        (
            {"key": jax.random.key(0, impl="rbg")},
            r"\['key'\] must be key<rbg>, got key<fr",
        ),
        ({"more": 1}, r"must hold the parameter \['more'\]"),
        ({"keys": jax.random.key(1)}, r"\['keys'\] must have shape \(2,\) .* \(2, 2\)"),
    ],
)
def test_another_state_is_refused_by_name(tmp_path, change, message):
    path = tmp_path / "run"
    checkpoint.save_state(path, make_state())
    with pytest.raises(ValueError, match=message):
        checkpoint.load_state(path, make_state() | change)


def test_files_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "run"
    checkpoint.save_params(path, make())
    with pytest.raises(ValueError, match=r"was not written by .*save_state"):
        checkpoint.load_state(path, make_state())
    with pytest.raises(ValueError, match=r"path must be a file, got the folder"):
        checkpoint.load_params(tmp_path, make())
    checkpoint.save_state(path, make())
    with pytest.raises(ValueError, match=r"but by save_state: read it with load_state"):
        checkpoint.load_params(path, make())
    checkpoint.save_state(path, make_state())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.load_state(path, make_state())


def test_what_is_no_array_is_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(
        TypeError, match=r"state\['name'\] must be an array, a jax.random key or a"
    ):
        checkpoint.save_state(path, {"name": "lstm"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("saved", "loaded", "message"),
    [
        (
            jaxrnn.gru(5),
            jaxrnn.gru(5, reset_after=False),
            "model: jaxrnn.gru(reset_after=True) in the file, "
            "jaxrnn.gru(reset_after=False) here",
        ),
        (
            jaxrnn.elman(5),
            jaxrnn.elman(5, activation=jax.nn.relu),
            "model: jaxrnn.elman(activation=jax.numpy.tanh) in the file, "
            "jaxrnn.elman(activation=jax.nn.relu) here",
        ),
        (
            jaxrnn.stack(jaxrnn.dense(2), jaxrnn.layer(jaxrnn.lstm(5))),
            jaxrnn.stack(jaxrnn.dense(2), jaxrnn.layer(jaxrnn.slstm(5))),
            "layers[1].cell: jaxrnn.lstm(cell_clip=None) in the file, "
            "jaxrnn.slstm(exponential=False) here",
        ),
    ],
)
def test_parameters_of_another_model_are_refused_by_name(
    tmp_path, saved, loaded, message
):
    params = saved.init(jax.random.key(0), 2)
    checkpoint.save_params(tmp_path / "p", params, {"note": "mine"}, model=saved)
    again = checkpoint.load_params(tmp_path / "p", params, model=saved)
    jax.tree.map(np.testing.assert_array_equal, again, params)
    assert checkpoint.load_metadata(tmp_path / "p") == {"note": "mine"}
    with pytest.raises(ValueError, match=re.escape(f"of another model: {message}")):
        checkpoint.load_params(tmp_path / "p", params, model=loaded)


def test_a_model_with_a_function_of_the_user_is_told_from_others(tmp_path):
    def own(x):
        return x / 2

    saved, loaded = jaxrnn.elman(5, activation=own), jaxrnn.elman(5)
    params = saved.init(jax.random.key(0), 2)
    checkpoint.save_params(tmp_path / "p", params, model=saved)
    checkpoint.load_params(tmp_path / "p", params, model=saved)
    with pytest.raises(
        ValueError, match=r"own\) in the file, jaxrnn.elman\(activation="
    ):
        checkpoint.load_params(tmp_path / "p", params, model=loaded)


def test_parameters_of_another_type_are_refused_without_a_model(tmp_path):
    like = [jaxrnn.janet(5).init(jax.random.key(0), 2)]
    checkpoint.save_params(tmp_path / "p", [jaxrnn.mgu(5).init(jax.random.key(0), 2)])
    message = r"of another model: its params\[0\] have type MGUParams, expected JANETP"
    with pytest.raises(ValueError, match=message):
        checkpoint.load_params(tmp_path / "p", like)
    checkpoint.save_state(tmp_path / "s", {"params": like})
    checkpoint.load_state(tmp_path / "s", {"params": like})


def test_a_model_must_have_a_description(tmp_path):
    by_hand = jaxrnn.Cell(*jaxrnn.lstm(5)[:5])
    params = by_hand.init(jax.random.key(0), 2)
    for value in (by_hand, 5):
        with pytest.raises(TypeError, match="model must be a cell or layer that a"):
            checkpoint.save_params(tmp_path / "p", params, model=value)
