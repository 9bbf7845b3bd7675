#!/usr/bin/env python3
"""Makes detection/precision.json: random boxes, random detections, and the mean average precision that pycocotools
gives them. Needs pycocotools and numpy; the numbers depend on the seeds alone."""
import contextlib
import copy
import io
import json
import pathlib

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def case(seed, images, boxes, noise, extra, crowds):
    rng = np.random.default_rng(seed)
    annotations, detections = [], []
    for image in range(1, images + 1):
        for _ in range(rng.integers(0, boxes + 1)):
            x, y, w, h = (rng.uniform(0, 80, 2).tolist() + rng.uniform(5, 40, 2).tolist())
            category = int(rng.integers(1, 5))
            crowd = int(rng.random() < crowds)
            box = [round(v, 2) for v in (x, y, w, h)]
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": category, "bbox": box,
                                "area": box[2] * box[3], "iscrowd": crowd})
            for _ in range(rng.integers(0, 3)):
                moved = [round(v + rng.normal(0, noise), 2) for v in box]
                moved[2:] = [max(1.0, v) for v in moved[2:]]
                right = rng.random() < 0.8
                detections.append({"image_id": image, "category_id": category if right else int(rng.integers(1, 5)),
                                   "bbox": moved, "score": round(float(rng.random()), 4)})
        for _ in range(rng.integers(0, extra + 1)):
            box = [round(v, 2) for v in rng.uniform(1, 60, 4).tolist()]
            detections.append({"image_id": image, "category_id": int(rng.integers(1, 6)), "bbox": box,
                               "score": round(float(rng.random()), 4)})
    truth = {"info": {}, "images": [{"id": i, "file_name": f"{i}.jpg", "width": 120, "height": 120} for i in range(1, images + 1)],
             "annotations": annotations, "categories": [{"id": i, "name": str(i)} for i in range(1, 6)]}
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(copy.deepcopy(detections)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    del truth["info"]
    return {"truth": truth, "detections": detections, "mean": float(judge.stats[0]), "at_50": float(judge.stats[1])}


cases = [case(1, 5, 3, 1.0, 2, 0.0), case(2, 20, 6, 3.0, 3, 0.0), case(3, 20, 6, 3.0, 3, 0.2), case(4, 2, 60, 1.0, 150, 0.05),
         case(5, 30, 4, 6.0, 0, 0.1)]
path = pathlib.Path(__file__).resolve().parent / "detection" / "precision.json"
path.write_text(json.dumps(cases, sort_keys=True, separators=(",", ":")) + "\n")
