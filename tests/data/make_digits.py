#!/usr/bin/env python3
"""Trains the demo model of cli/assets on scikit-learn's digits, and writes it with its samples. See README.md."""
import os
import pathlib
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

ASSETS = pathlib.Path(__file__).resolve().parents[2] / "cli" / "assets"
SEED, TEST, CALIBRATION, EPOCHS = 20, 497, 100, 60


def network():
    k = tf.keras.layers
    block = lambda layer, relu: [layer, k.BatchNormalization(momentum=0.9), k.ReLU(relu)]
    return tf.keras.Sequential([
        k.Input((8, 8, 1)),
        *block(k.Conv2D(16, 3, padding="same", use_bias=False), None),
        *block(k.DepthwiseConv2D(3, padding="same", use_bias=False), 6.0),
        *block(k.Conv2D(32, 1, use_bias=False), 6.0),
        k.MaxPooling2D(2),
        *block(k.Conv2D(32, 3, padding="same", use_bias=False), None),
        k.AveragePooling2D(2),
        k.Flatten(),
        k.Dropout(0.3),
        k.Dense(10, activation="softmax"),
    ])


def convert(model):
    spec = [tf.TensorSpec((1, 8, 8, 1), tf.float32, "image")]
    # The weights become constants first: left as variables they would end up as READ_VARIABLE.
    frozen = convert_variables_to_constants_v2(tf.function(lambda image: model(image, training=False), spec).get_concrete_function())
    predict = tf.function(lambda image: {"probabilities": frozen(image)[0]}, spec)
    with tempfile.TemporaryDirectory() as d:
        tf.saved_model.save(tf.Module(), d, signatures={"serving_default": predict.get_concrete_function()})
        return tf.lite.TFLiteConverter.from_saved_model(d, signature_keys=["serving_default"]).convert()


def accuracy(model, images, labels):
    run = tf.lite.Interpreter(model_content=model).get_signature_runner("serving_default")
    return np.mean([run(image=x[None])["probabilities"].argmax() == y for x, y in zip(images, labels)])


def main():
    tf.keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    images = (digits.images[order] / 16).astype(np.float32)[..., None]
    labels = digits.target[order].astype(np.uint8)
    model = network()
    rate = tf.keras.optimizers.schedules.CosineDecay(3e-3, EPOCHS * -(-(len(labels) - TEST) // 32))
    model.compile(tf.keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(images[TEST:], labels[TEST:], batch_size=32, epochs=EPOCHS, verbose=0)
    print(f"trained: {np.mean(model.predict(images[:TEST], verbose=0).argmax(1) == labels[:TEST]):.4f}")
    file = convert(model)

    ASSETS.mkdir(parents=True, exist_ok=True)
    (ASSETS / "digits.tflite").write_bytes(file)
    np.save(ASSETS / "digits_calib.npy", images[TEST:TEST + CALIBRATION])
    np.save(ASSETS / "digits_test.npy", images[:TEST])
    np.save(ASSETS / "digits_labels.npy", labels[:TEST])
    print(f"{len(file)} bytes, accuracy {accuracy(file, images[:TEST], labels[:TEST]):.4f} on {TEST} samples")


if __name__ == "__main__":
    main()
