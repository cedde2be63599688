// SPDX-License-Identifier: Apache-2.0
// Photographs as a model of this project sees them: upright, RGB, 8 bits, resized as by Pillow.
//
// A program that reads photographs by other means needs `resize` alone.

#pragma once

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include <jpeglib.h>
#include <png.h>

using Bytes = std::vector<uint8_t>;

struct Image {
  int width = 0, height = 0;
  Bytes pixels;  // RGB, row by row

  void set_size(size_t wide, size_t high) {
    width = int(wide);
    height = int(high);
    pixels.resize(3 * wide * high);
  }
  uint8_t* row(size_t y) { return pixels.data() + 3 * y * width; }
};

// What the EXIF data, a small TIFF file, says about how to turn the photograph: 1 to 8.
inline int read_orientation(const uint8_t* tiff, size_t size) {
  if (size < 8) return 1;
  const bool little = tiff[0] == 'I';
  auto number = [&](size_t at, int count) {
    uint32_t value = 0;
    for (int i = 0; i < count; i++) value = value << 8 | tiff[at + (little ? count - 1 - i : i)];
    return value;
  };
  const size_t start = number(4, 4);
  if (start + 2 > size) return 1;
  for (size_t i = 0, count = number(start, 2); i < count; i++) {
    const size_t entry = start + 2 + 12 * i;
    if (entry + 12 > size) return 1;
    const uint32_t value = number(entry + 8, 2);
    if (number(entry, 2) == 0x0112) return value >= 1 && value <= 8 ? int(value) : 1;
  }
  return 1;
}

// As the camera was held: columns and rows change places, or are read from the other end.
inline Image turn(const Image& image, int orientation) {
  if (orientation == 1) return image;
  const bool swapped = orientation >= 5;
  Image result{swapped ? image.height : image.width, swapped ? image.width : image.height, {}};
  result.pixels.resize(image.pixels.size());
  const bool from_right = std::strchr("2378", '0' + orientation);
  const bool from_below = std::strchr("3467", '0' + orientation);
  for (int y = 0; y < result.height; y++) {
    for (int x = 0; x < result.width; x++) {
      const int column = swapped ? y : x, row = swapped ? x : y;
      const size_t from_x = from_right ? image.width - 1 - column : column;
      const size_t from_y = from_below ? image.height - 1 - row : row;
      const auto from = image.pixels.begin() + 3 * (from_y * image.width + from_x);
      std::copy(from, from + 3, result.pixels.begin() + 3 * (size_t(y) * result.width + x));
    }
  }
  return result;
}

struct JpegErrors {
  jpeg_error_mgr manager;
  jmp_buf place;
  char text[JMSG_LENGTH_MAX];
};

[[noreturn]] inline void leave_jpeg(j_common_ptr about) {
  auto* errors = reinterpret_cast<JpegErrors*>(about->err);
  about->err->format_message(about, errors->text);
  longjmp(errors->place, 1);
}

// A warning is about parts that are missing or damaged, which would be grey.
inline void warn_jpeg(j_common_ptr about, int level) {
  if (level < 0) leave_jpeg(about);
}

inline bool decode_jpeg(const Bytes& content, Image& image, int& orientation, std::string& error) {
  jpeg_decompress_struct jpeg;
  JpegErrors errors;
  jpeg.err = jpeg_std_error(&errors.manager);
  errors.manager.error_exit = leave_jpeg;
  errors.manager.emit_message = warn_jpeg;
  jpeg_create_decompress(&jpeg);
  if (setjmp(errors.place)) {
    error = errors.text;
    jpeg_destroy_decompress(&jpeg);
    return false;
  }
  jpeg_mem_src(&jpeg, content.data(), content.size());
  jpeg_save_markers(&jpeg, JPEG_APP0 + 1, 0xFFFF);
  jpeg_read_header(&jpeg, TRUE);
  for (auto* marker = jpeg.marker_list; marker; marker = marker->next) {
    if (marker->data_length > 6 && !std::memcmp(marker->data, "Exif\0", 6)) {
      orientation = read_orientation(marker->data + 6, marker->data_length - 6);
    }
  }
  if (jpeg.num_components == 4) {
    error = "CMYK: save it as RGB";
    jpeg_destroy_decompress(&jpeg);
    return false;
  }
  jpeg.out_color_space = JCS_RGB;
  jpeg_start_decompress(&jpeg);
  image.set_size(jpeg.output_width, jpeg.output_height);
  while (jpeg.output_scanline < jpeg.output_height) {
    JSAMPROW row = image.row(jpeg.output_scanline);
    jpeg_read_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_decompress(&jpeg);
  jpeg_destroy_decompress(&jpeg);
  return true;
}

struct PngSource {
  const Bytes& content;
  size_t position;
  std::string& error;
};

[[noreturn]] inline void leave_png(png_structp png, png_const_charp text) {
  static_cast<PngSource*>(png_get_error_ptr(png))->error = text;
  png_longjmp(png, 1);
}

inline void read_png(png_structp png, png_bytep target, size_t count) {
  auto* source = static_cast<PngSource*>(png_get_io_ptr(png));
  if (source->content.size() - source->position < count) png_error(png, "the file is cut off");
  std::memcpy(target, source->content.data() + source->position, count);
  source->position += count;
}

inline bool decode_png(const Bytes& content, Image& image, int& orientation, std::string& error) {
  PngSource source{content, 0, error};
  auto silent = [](png_structp, png_const_charp) {};
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source, leave_png, silent);
  png_infop info = png_create_info_struct(png);
  if (setjmp(png_jmpbuf(png))) {
    png_destroy_read_struct(&png, &info, nullptr);
    return false;
  }
  png_set_read_fn(png, &source, read_png);
  png_read_info(png, info);
  if (png_get_bit_depth(png, info) == 16) png_error(png, "16 bits: save it with 8 bits");
  png_set_expand(png);
  png_set_gray_to_rgb(png);
  png_set_strip_alpha(png);
  const int passes = png_set_interlace_handling(png);
  png_read_update_info(png, info);
  image.set_size(png_get_image_width(png, info), png_get_image_height(png, info));
  for (int pass = 0; pass < passes; pass++) {
    for (int y = 0; y < image.height; y++) png_read_row(png, image.row(y), nullptr);
  }
  png_read_end(png, info);
  png_uint_32 size = 0;
  png_bytep exif = nullptr;
  if (png_get_eXIf_1(png, info, &size, &exif)) orientation = read_orientation(exif, size);
  png_destroy_read_struct(&png, &info, nullptr);
  return true;
}

inline Image read_image(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("no such file");
  const Bytes content((std::istreambuf_iterator<char>(file)), {});
  const bool is_jpeg = content.size() > 3 && content[0] == 0xFF && content[1] == 0xD8;
  if (!is_jpeg && (content.size() < 8 || png_sig_cmp(content.data(), 0, 8))) {
    throw std::runtime_error("neither JPEG nor PNG");
  }
  Image image;
  std::string error;
  int orientation = 1;
  if (!(is_jpeg ? decode_jpeg : decode_png)(content, image, orientation, error)) {
    throw std::runtime_error(error);
  }
  return turn(image, orientation);
}

// The lines of an image along one side, in bytes.
struct Lines {
  size_t stride;          // from a pixel of a line to the next
  int lines;              // how many there are
  size_t source, target;  // from a line to the next, before and after
};

// Each line, `from` pixels, becomes `to` pixels. Each is the mean of all that lie below it, weighted
// by a triangle.
inline Bytes weigh(const Bytes& source, int from, int to, const Lines& line) {
  Bytes target(size_t(3) * to * line.lines);
  const double step = double(from) / to, reach = std::max(step, 1.0);
  for (int i = 0; i < to; i++) {
    const double centre = (i + 0.5) * step;
    const int start = std::max(int(centre - reach + 0.5), 0);
    const int stop = std::min(int(centre + reach + 0.5), from);
    std::vector<double> parts;
    for (int j = start; j < stop; j++) {
      parts.push_back(std::max(1 - std::abs(j + 0.5 - centre) / reach, 0.0));
    }
    const double total = std::accumulate(parts.begin(), parts.end(), 0.0);
    std::vector<int> weights;  // whole numbers, as in Pillow: sums are exact, and round alike
    for (double part : parts) weights.push_back(int(part / total * (1 << 22) + 0.5));
    for (int n = 0; n < line.lines; n++) {
      for (int c = 0; c < 3; c++) {
        int sum = 1 << 21;
        size_t at = n * line.source + start * line.stride + c;
        for (int weight : weights) {
          sum += source[at] * weight;
          at += line.stride;
        }
        target[n * line.target + i * line.stride + c] = uint8_t(std::min(sum >> 22, 255));
      }
    }
  }
  return target;
}

// RGB of width x height, bilinear: the same pixels as of Pillow 13.
inline Bytes resize(const Image& image, int width, int height) {
  auto across = [&](const Bytes& source, int lines) {
    return weigh(source, image.width, width, {3, lines, size_t(3) * image.width, size_t(3) * width});
  };
  auto down = [&](const Bytes& source, int wide) {
    return weigh(source, image.height, height, {size_t(3) * wide, wide, 3, 3});
  };
  // Pillow begins with the side that saves work.
  if (image.height - height > std::max(0, 2 * (image.width - width))) {
    return across(down(image.pixels, image.width), height);
  }
  return down(across(image.pixels, image.height), width);
}
