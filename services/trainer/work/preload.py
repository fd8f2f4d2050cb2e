"""What a work process needs is loaded once, in the server that forks it."""

import lightgbm
import onnx
import onnxruntime
import polars
import sklearn.ensemble
import sklearn.linear_model

import perennial.stats.classification
import perennial.stats.errors
import perennial.stats.losses
import perennial.stats.profile
import services.trainer.work.training

LOADED = (lightgbm, onnx, onnxruntime, polars, sklearn, perennial.stats, services.trainer.work.training)
