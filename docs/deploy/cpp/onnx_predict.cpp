// SPDX-License-Identifier: Apache-2.0
// Predict with an ONNX export in C++17: needs photo.h beside it, onnxruntime, libjpeg and libpng.
//
//     g++ -O2 -std=c++17 onnx_predict.cpp -o onnx_predict -lonnxruntime -ljpeg -lpng
//     ./onnx_predict output/best_model/inference_onnx/inference.onnx photo.jpg more/*.png
//
// Class names, thresholds and the numbers of the preprocessing are in the file.

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "photo.h"

// Texts and numbers of a list in JSON, as the export writes them: ["sea", "\"x\""], [0.5, 0.4], 7.
std::vector<std::string> read_list(const std::string& json) {
  std::vector<std::string> found;
  for (size_t i = 0; i < json.size(); i++) {
    if (json[i] == '"') {
      std::string text;
      for (i++; i < json.size() && json[i] != '"'; i++) {
        if (json[i] == '\\') {
          const std::string plain = "\"\\/bfnrt", meant = "\"\\/\b\f\n\r\t";
          const size_t kind = plain.find(json.at(++i));
          if (kind == std::string::npos) {  // \u001f: a control character
            text += char(std::stoi(json.substr(i + 1, 4), nullptr, 16));
            i += 4;
          } else {
            text += meant[kind];
          }
        } else {
          text += json[i];
        }
      }
      found.push_back(text);
    } else if (std::isdigit(json[i]) || json[i] == '-') {
      const size_t end = json.find_first_of(",]", i);
      found.push_back(json.substr(i, end - i));
      i = std::min(end, json.size());
    }
  }
  return found;
}

class Model {
 public:
  explicit Model(const char* path, int threads = 0)  // 0: one per core
      : session_(nullptr) {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(threads);
    // Files in 8 bits: without it, processors without VNNI give other scores.
    options.AddConfigEntry("session.x64quantprecision", "1");
    session_ = Ort::Session(env_, path, options);
    const auto size = numbers("image_size");
    width_ = int(size.front());
    height_ = int(size.back());
    scale_ = numbers("scale").at(0);
    mean_ = numbers("mean");
    std_ = numbers("std");
    names = read_list(text("label_names"));
    thresholds = numbers("thresholds");
    if (mean_.size() != 3 || std_.size() != 3 || thresholds.size() != names.size()) {
      throw std::runtime_error("its metadata is damaged: export it again");
    }
  }

  // Scores of one photograph, 0 to 1: one for each class.
  std::vector<float> scores(const Image& image) {
    const Bytes pixels = resize(image, width_, height_);
    const size_t area = size_t(width_) * height_;
    std::vector<float> input(3 * area);
    for (size_t i = 0; i < area; i++) {
      for (int c = 0; c < 3; c++) {
        input[c * area + i] = (pixels[3 * i + c] * scale_ - mean_[c]) / std_[c];
      }
    }
    const int64_t shape[] = {1, 3, height_, width_};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    auto tensor = Ort::Value::CreateTensor(memory, input.data(), input.size(), shape, 4);
    Ort::AllocatorWithDefaultOptions allocator;
    const auto input_name = session_.GetInputNameAllocated(0, allocator);
    const auto output_name = session_.GetOutputNameAllocated(0, allocator);
    const char *inputs[] = {input_name.get()}, *outputs[] = {output_name.get()};
    const auto found = session_.Run(Ort::RunOptions{}, inputs, &tensor, 1, outputs, 1);
    const float* values = found[0].GetTensorData<float>();
    return {values, values + names.size()};
  }

  std::vector<std::string> names;
  std::vector<float> thresholds;

 private:
  std::string text(const char* key) {
    Ort::AllocatorWithDefaultOptions allocator;
    const auto value =
        session_.GetModelMetadata().LookupCustomMetadataMapAllocated(key, allocator);
    if (!value) throw std::runtime_error(std::string("it lacks ") + key + ": export it again");
    return value.get();
  }

  std::vector<float> numbers(const char* key) {
    std::vector<float> found;
    for (const auto& number : read_list(text(key))) found.push_back(std::stof(number));
    if (found.empty()) throw std::runtime_error(std::string("it lacks ") + key);
    return found;
  }

  Ort::Env env_{ORT_LOGGING_LEVEL_ERROR};
  Ort::Session session_;
  int width_, height_;
  float scale_;
  std::vector<float> mean_, std_;
};

int main(int count, char** arguments) {
  setenv("ORT_DISABLE_TELEMETRY", "1", 0);  // from 1.32 on onnxruntime reports to its maker
  if (count < 3) {
    fprintf(stderr, "usage: onnx_predict inference.onnx photo.jpg [photo.png ...]\n");
    return 2;
  }
  int unread = 0;
  try {
    Model model(arguments[1]);
    for (int i = 2; i < count; i++) {
      try {
        const auto scores = model.scores(read_image(arguments[i]));
        std::vector<size_t> order(scores.size());
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(),
                         [&](size_t a, size_t b) { return scores[a] > scores[b]; });
        printf("%s", arguments[i]);
        for (size_t k : order) {
          if (scores[k] < model.thresholds[k]) continue;
          printf("\t%s %.5f", model.names[k].c_str(), scores[k]);
        }
        printf("\n");
      } catch (const std::runtime_error& error) {
        fprintf(stderr, "error: %s: %s\n", arguments[i], error.what());
        unread++;
      }
    }
  } catch (const std::exception& error) {
    fprintf(stderr, "error: %s: %s\n", arguments[1], error.what());
    return 2;
  }
  return unread ? 2 : 0;
}
