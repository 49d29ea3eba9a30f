"""Networks: backbones, and the two towers.

names                which backbones there are, and what each needs; read without Keras
backbones            `build_backbone`: pixels of 0..255 to pooled features
efficientnet_lite    the offline backbone, and the reader of its checkpoint
applications         all of `keras.applications`
dinov2               DINOv2 from keras-hub
onnx_model           an ONNX file: what its input wants, and its features
onnx_backbone        the same as a layer of Keras
weight_files         weights of a backbone from a file
layers, scaling      fixed pixel scaling, frozen batch normalisation, GeM
towers               trunk, head, whitening; the head as the mining pass computes it
activations          what a training step keeps of an image
"""
