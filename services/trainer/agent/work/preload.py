"""What a work process needs is loaded once, in the server that forks it."""

import lightgbm
import onnx
import onnxruntime
import perennial.stats.classification
import perennial.stats.errors
import perennial.stats.losses
import perennial.stats.profile
import polars as pl
import sklearn.ensemble
import sklearn.linear_model

import services.trainer.agent.work.training

LOADED = (lightgbm, onnx, onnxruntime, pl, sklearn, perennial.stats, services.trainer.agent.work.training)
