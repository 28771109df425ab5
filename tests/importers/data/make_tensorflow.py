"""Writes the three TensorFlow checkpoints beside this file, with tensorflow-cpu 2.21.0 and NumPy
2.4.6: `python make_tensorflow.py`.

Weights are random, of seed 1; tensorflow.json has their SHA-256."""

# mypy: ignore-errors
from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import tensorflow as tf

HERE = Path(__file__).parent
v1 = tf.compat.v1


def part_of(value):
    """An initializer of a variable, or of one slice of it."""

    def initializer(shape, dtype=None, partition_info=None):
        start = partition_info.var_offset if partition_info else [0] * len(shape)
        place = tuple(slice(a, a + int(n)) for a, n in zip(start, shape, strict=True))
        return tf.cast(tf.constant(value[place]), dtype)

    return initializer


def write_shards(values) -> None:
    """tensorflow_shards: two shards, as two devices or workers write them; one variable is cut into
    slices that stand in both, one has a single value."""
    kernel = values["encoder/kernel"].astype(np.float32)
    parts = {
        "part_a": [("encoder/kernel", "7 4 0,3:-", kernel[:3]), ("scalar", "", np.float32(0.5))],
        "part_b": [
            ("encoder/kernel", "7 4 3,4:-", kernel[3:]),
            ("encoder/bias", "", values["encoder/bias"].astype(np.float32)),
        ],
    }
    for prefix, variables in parts.items():
        names, slices, tensors = zip(*variables, strict=True)
        tf.raw_ops.SaveV2(
            prefix=prefix,
            tensor_names=list(names),
            shape_and_slices=list(slices),
            tensors=[tf.constant(one) for one in tensors],
        )
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=list(parts),
        destination_prefix="tensorflow_shards",
        delete_old_dirs=False,
    )


def main() -> None:
    os.chdir(HERE)  # the prefix would be written into the files
    generator = np.random.default_rng(1)
    sizes = {
        "encoder/kernel": (7, 4),
        "encoder/bias": (3,),
        "whole/half": (2, 3),
        "whole/brain": (2, 2),
        "whole/double": (2,),
        "scalar": (),
    }
    kinds = {"whole/half": "float16", "whole/brain": "bfloat16", "whole/double": "float64"}
    values = {name: generator.standard_normal(size) for name, size in sizes.items()}
    with tf.Graph().as_default(), v1.Session() as session:
        variables = []
        for name, value in values.items():
            kind = tf.as_dtype(kinds.get(name, "float32"))
            cut = v1.fixed_size_partitioner(3) if name == "encoder/kernel" else None
            with v1.variable_scope("", partitioner=cut):
                given = part_of(value)
                variables.append(v1.get_variable(name, value.shape, kind, given))
        variables.append(v1.get_variable("step", initializer=np.int64(1 << 40)))
        variables.append(v1.get_variable("flags", initializer=np.array([True, False])))
        variables.append(v1.get_variable("counts", initializer=np.array([-5, 7], np.int32)))
        variables.append(v1.get_variable("text", initializer=tf.constant(["a", "bc"])))
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, "tensorflow_v1", write_meta_graph=False, write_state=False)
    weights = {"kernel": tf.Variable(values["encoder/kernel"].astype(np.float32))}
    module = tf.train.Checkpoint(layer=tf.Module(), step=tf.Variable(3))
    module.layer.kernel = weights["kernel"]
    module.write("tensorflow_v2")
    write_shards(values)
    files = sorted(path for path in HERE.glob("tensorflow_*") if path.suffix != ".json")
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    floats = {name: value.tolist() for name, value in values.items()}
    document = {"tensorflow": tf.__version__, "sha256": sums, "values": floats}
    Path("tensorflow.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
