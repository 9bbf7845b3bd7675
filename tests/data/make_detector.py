#!/usr/bin/env python3
"""Makes detection/detector.tflite, a detector whose boxes are the pixels of its image, detection/images, and
detection/annotations.json with detection/figures.json: the mean average precision that pycocotools gives the boxes that
LiteRT finds. Needs ai-edge-litert, flatbuffers, numpy, Pillow and pycocotools; the numbers depend on the seed alone."""
import contextlib
import io
import json
import pathlib

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import flexbuffers
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from zoo.writer import Case

BOXES, CLASSES = 24, 3
FOLDER = pathlib.Path(__file__).resolve().parent / "detection"
# Width and height of the photographs that the small images stand for.
SIZES = [(640, 480), (480, 640), (500, 375), (333, 500), (640, 427), (100, 100)]


def model():
    """A row of nine values a box: y, x, height, width, and the scores of the background and three classes. The outputs are in the
    order that TensorFlow 2 gives them, which is not that of the operator."""
    c = Case("detection", "detector")
    pixels = c.input((1, BOXES, 3, 3), "float32")
    rows = c.middle((1, BOXES, 9), "float32")
    c.op("RESHAPE", [pixels, c.const([1, BOXES, 9], "int32")], [rows], "ReshapeOptions", newShape=[1, BOXES, 9])
    parts = []
    for start in (0, 4):
        parts.append(c.middle((1, BOXES, 4), "float32"))
        c.op("SLICE", [rows, c.const([0, 0, start], "int32"), c.const([1, BOXES, 4], "int32")], [parts[-1]], "SliceOptions")
    anchors = c.const(np.tile(np.float32([0, 0, 0.2, 0.2]), (BOXES, 1)), "float32")
    options = {"max_detections": 10, "max_classes_per_detection": 1, "nms_score_threshold": 0.3, "nms_iou_threshold": 0.5,
               "num_classes": CLASSES, "y_scale": 0.2, "x_scale": 0.2, "h_scale": 1.0, "w_scale": 1.0}
    boxes, classes, scores, count = results = [c.middle(shape, "float32") for shape in ((1, 10, 4), (1, 10), (1, 10), (1,))]
    c.custom("TFLite_Detection_PostProcess", flexbuffers.Dumps(options), [*parts, anchors], results)
    c.outputs = [scores, boxes, count, classes]
    return c.model([])


def main():
    rng = np.random.default_rng(7)
    (FOLDER / "images").mkdir(parents=True, exist_ok=True)
    (FOLDER / "detector.tflite").write_bytes(model())
    interpreter = Interpreter(str(FOLDER / "detector.tflite"))
    interpreter.allocate_tensors()
    images, annotations, detections = [], [], []

    def annotate(image, category, box, crowd=0):
        box = [round(float(v), 2) for v in box]
        annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3],
                            "iscrowd": crowd})

    for image, (width, height) in enumerate(SIZES, 1):
        pixels = rng.integers(0, 256, (BOXES, 3, 3), np.uint8)
        Image.fromarray(pixels).save(FOLDER / "images" / f"{image}.png")
        images.append({"id": image, "file_name": f"val/{image}.png", "width": width, "height": height})
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.float32(pixels)[None] / np.float32(255))
        interpreter.invoke()
        scores, boxes, count, classes = (interpreter.get_tensor(o["index"])[0] for o in interpreter.get_output_details())
        for (top, left, bottom, right), category, score in list(zip(np.float64(boxes), classes, scores))[:int(count)]:
            box = [left * width, top * height, (right - left) * width, (bottom - top) * height]
            detections.append({"image_id": image, "category_id": int(category) + 1, "bbox": box, "score": float(score)})
            if rng.random() < 0.7:
                moved = np.array(box) * rng.uniform(0.85, 1.15, 4)
                annotate(image, int(category) + 1 if rng.random() < 0.9 else int(rng.integers(1, CLASSES + 1)), moved, int(rng.random() < 0.1))
        annotate(image, int(rng.integers(1, CLASSES + 1)), [width / 2, height / 2, 30, 40])
    # One image is in the annotations and not there, one is there and not annotated.
    images.append({"id": 99, "file_name": "val/gone.png", "width": 640, "height": 480})
    annotate(99, 1, [10, 10, 20, 20])
    Image.fromarray(rng.integers(0, 256, (BOXES, 3, 3), np.uint8)).save(FOLDER / "images" / "extra.png")
    names = [{"id": i, "name": name} for i, name in enumerate(("person", "bicycle", "traffic light"), 1)]
    truth = {"images": images, "annotations": annotations, "categories": names}
    (FOLDER / "annotations.json").write_text(json.dumps(truth, indent=0) + "\n")

    def judge(ids):
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(str(FOLDER / "annotations.json"))
            coco.dataset["info"] = {}
            judge = COCOeval(coco, coco.loadRes([dict(d) for d in detections]), "bbox")
            judge.params.imgIds = ids
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        return {"images": len(ids), "map": float(judge.stats[0]), "at_50": float(judge.stats[1])}

    figures = [judge(list(range(1, last + 1))) for last in (len(SIZES), 2)]
    (FOLDER / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")


main()
