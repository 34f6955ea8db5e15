// The backward pass of layer norm (CENTRE) and RMS norm. With x̂ = (x - mean) scale and
// g = dy weight,
//
//   norm_backward    dx = (g - mean(g) - x̂ mean(g x̂)) scale; no mean(g) in an RMS norm
//   norm_parts       sums of dy x̂ and dy over some of the rows
//   norm_parameters  dweight = Σ dy x̂ and dbias = Σ dy over all rows: sums of the parts
//
// The parameters' gradients are sums over all rows, which many blocks share, in two
// stages (`columns.cuh`): always the same bits.
//
// Shapes    x, dy, dx (N, C); weight, dweight, dbias (C,) or null: float, float16 or
//           bfloat16; mean, null in an RMS norm, and scale (N,); parts (P, 2, C), float
// Thread    every blockDim-th number of a row; in norm_parts every 8 P-th number of a
//           column; in norm_parameters every 8th of its parts
// Grid      (N), 32 to 512 threads by the width; (C / 32, P) and (C / 32), 8 warps
// Moves     x and dy twice, dx once, the parts twice
// FLOPs     14 a number
// Source    arXiv 1607.06450; RMS norm 1910.07467
// Improves  on a dozen kernels for products, sums and differences, and on products with
//           vectors of ones for the sums over rows
#include "ptx.cuh"
#include "rows.cuh"
#include "columns.cuh"

template <typename Number, bool CENTRE>
__global__ void norm_backward(const Number* x, const Number* weight, const float* mean,
                              const float* scale, const Number* dy, Number* dx,
                              int width) {
  x = row_of(x, width), dy = row_of(dy, width), dx = row_of(dx, width);
  const float centre = CENTRE ? mean[blockIdx.x] : 0, factor = scale[blockIdx.x];
  float of_g = 0, of_gx = 0;
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    const float g = to_float(dy[i]) * (weight ? to_float(weight[i]) : 1);
    if (CENTRE) of_g += g;
    of_gx += g * (to_float(x[i]) - centre) * factor;
  }
  if (CENTRE) of_g = block_sum(of_g) / width;
  of_gx = block_sum(of_gx) / width;
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    const float g = to_float(dy[i]) * (weight ? to_float(weight[i]) : 1);
    const float row = (to_float(x[i]) - centre) * factor;
    from_float((g - of_g - row * of_gx) * factor, dx[i]);
  }
}

template <typename Number, bool CENTRE>
__global__ void norm_parts(const Number* x, const float* mean, const float* scale,
                           const Number* dy, float* parts, int rows, int width) {
  const int column = own_column();
  float dweight = 0, dbias = 0;
  if (column < width) {
    for (long long r = own_row(); r < rows; r += row_step()) {
      const float centre = CENTRE ? mean[r] : 0, factor = scale[r];
      const float d = to_float(dy[r * width + column]);
      dweight += d * (to_float(x[r * width + column]) - centre) * factor;
      dbias += d;
    }
  }
  dweight = over_warps(dweight);
  dbias = over_warps(dbias);
  if (threadIdx.x >= 32 || column >= width) return;
  parts[2ll * blockIdx.y * width + column] = dweight;
  parts[(2ll * blockIdx.y + 1) * width + column] = dbias;
}

template <typename Number, bool CENTRE>
__global__ void norm_parameters(const float* parts, Number* dweight, Number* dbias,
                                int count, int width) {
  const int column = own_column();
  const float of_weight = column_part(parts, count, column, width, 2ll * width);
  const float of_bias = column_part(parts + width, count, column, width, 2ll * width);
  if (threadIdx.x >= 32 || column >= width) return;
  if (dweight) from_float(of_weight, dweight[column]);
  if (dbias) from_float(of_bias, dbias[column]);
}
