//! Weights in a shape that this machine computes fast.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Cursor};

use candle_core::quantized::gguf_file::{Content, TensorInfo};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Result};
use candle_transformers::models::quantized_llama::ModelWeights;

/// Models with more parameters are taken as they are: converting them needs twice that many bytes for a moment.
const LARGEST: usize = 2_000_000_000;

/// Reads a model's weights.
///
/// The library has fast kernels for some formats only; in the others a small model is several times slower than it
/// need be. Those are brought into `Q8_0`, which has a kernel on every machine and is fine enough (127 levels for each
/// block of 32 values) to keep what 4 and 5 bits could say.
pub(crate) fn read(mut content: Content, file: &mut BufReader<File>) -> Result<ModelWeights> {
    let slow = content.tensor_infos.values().any(|tensor| is_slow(tensor.ggml_dtype));
    if !slow || parameters(&content) > LARGEST {
        return ModelWeights::from_gguf(content, file, &Device::Cpu);
    }
    let (mut converted, mut moved) = (Vec::new(), HashMap::new());
    let mut names: Vec<String> = content.tensor_infos.keys().cloned().collect();
    names.sort_unstable();
    for name in names {
        let tensor = convert(content.tensor(file, &name, &Device::Cpu)?)?;
        let info =
            TensorInfo { ggml_dtype: tensor.dtype(), shape: tensor.shape().clone(), offset: converted.len() as u64 };
        converted.extend_from_slice(&tensor.data()?);
        moved.insert(name, info);
    }
    content.tensor_infos = moved;
    content.tensor_data_offset = 0;
    ModelWeights::from_gguf(content, &mut Cursor::new(converted), &Device::Cpu)
}

/// Counts the numbers that the model consists of.
pub(crate) fn parameters(content: &Content) -> usize {
    content.tensor_infos.values().map(|tensor| tensor.shape.elem_count()).sum()
}

fn is_slow(format: GgmlDType) -> bool {
    matches!(format, GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1)
}

fn convert(tensor: QTensor) -> Result<QTensor> {
    if !is_slow(tensor.dtype()) {
        return Ok(tensor);
    }
    QTensor::quantize(&tensor.dequantize(&Device::Cpu)?, GgmlDType::Q8_0)
}
