// The ascent through a stack (Eq. 5-7) for one problem on one thread. a . a'(X) of a deeper layer is piecewise linear,
// neither convex nor concave: it is taken at the gates of X, what is left is maximised exactly, and X goes towards
// that summit as far as f rises (docs/method.md).
//
// A unit whose activation has a negative coefficient bends f downwards where its gate changes, and maxima lie on such
// kinks. Where the summit is lower than its slope promised, the kinks passed on the way become part of what is
// maximised, as relus of their own (box-inl.h).
#if defined(FASTINTERP_ASCENT_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_ASCENT_INL_H
#undef FASTINTERP_ASCENT_INL_H
#else
#define FASTINTERP_ASCENT_INL_H
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "../shared/activation.h"
#include "../shared/float_buffer.h"
#include "../shared/isa_region.h"
#include "../shared/packed_layer.h"
#include "../shared/simd-inl.h"
#include "../shared/stack_pass-inl.h"
#include "box-inl.h"
#include "cpu.h"
#include "filter_products-inl.h"
#include "settings.h"
#include "tilt-inl.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

// A unit at whose kink X may rest: channel c at output p of layer l.
struct Kink {
  int64_t layer;
  int64_t unit;  // p * out_stride + c
  float share;   // of its gate, in [0, 1]: what is between closed and open
};

// f at some X, and the size of the terms that rounding is relative to.
struct Height {
  double value;
  double size;
};

class StackAscent {
 public:
  StackAscent(const PackedLayer* layers, int64_t count, const CcpSettings& settings, Activation activation)
      : layers_(layers),
        count_(count),
        settings_(settings),
        activation_(activation),
        half_(static_cast<float>(1 / (2 * settings.l2_weight))),
        floats_(receptive_field(layers, count) * layers[0].in_stride),
        here_memory_(StackPass::scratch_floats(layers, count)),
        there_memory_(StackPass::scratch_floats(layers, count)),
        tilt_memory_(TiltedRows::scratch_floats(receptive_field(layers, count), layers[0].in_stride)),
        jacobians_(count > 1 ? kMostKinks * floats_ : 0),
        gram_(kMostKinks * kMostKinks),
        norms_(kMostKinks) {
    for (FloatBuffer* each : {&x_, &kept_, &trial_, &summit_, &pull_}) *each = FloatBuffer(floats_);
    const int64_t places = count > 1 ? kMostKinks : layers[0].out_stride;
    y_.resize(places);
    z_.resize(places);
    most_.resize(places);
  }

  // `products` are the filters' in the first layer, and empty in others.
  void run(CcpProblem& problem, const FilterProducts& products) {
    products_ = products;
    begin(problem);
    Height height = measure(x_, here_);
    double last_residual = 0;
    bool risen = true;
    for (problem.iterations = 1;; ++problem.iterations) {
      const double residual = look();
      // A step whose gain rounding hides counts only if it led nearer to a summit.
      if (!risen && residual > 0.5 * last_residual) {
        std::swap(x_, kept_);
        problem.residual = static_cast<float>(last_residual);
        break;
      }
      problem.residual = static_cast<float>(residual);
      if (residual <= settings_.tolerance || problem.iterations >= settings_.max_iterations) break;
      const double slack = kRounding * height.size;
      Height reached = measure(summit_, there_);
      for (int round = 0; round < kMostRounds && add_kinks(height, reached); ++round) {
        look();
        reached = measure(summit_, there_);
      }
      FloatBuffer* goal = &summit_;
      if (!(reached.value >= height.value - slack)) {  // lower, or past what float32 holds
        goal = &trial_;
        for (float share = 0.5f; share > kShortest; share /= 2) {
          for (int64_t i = 0; i < floats_; i += kLanes)
            store(&trial_[i], load(&x_[i]) + share * (load(&summit_[i]) - load(&x_[i])));
          reached = measure(trial_, there_);
          if (reached.value > height.value + slack) break;
        }
        if (!(reached.value > height.value + slack)) break;
      }
      risen = reached.value > height.value + slack;
      height = reached;
      last_residual = residual;
      std::swap(kept_, x_);
      std::swap(x_, *goal);
      std::swap(here_, there_);
      forget_settled_kinks();
    }
    finish(problem);
  }

 private:
  static constexpr int64_t kMostKinks = 96;
  static constexpr int kMostRounds = 8;
  static constexpr double kNear = 1e-4;      // of f: gains that its rounding would hide
  static constexpr float kShortest = 1e-4f;  // of a step
  static constexpr double kRounding = 2e-7;  // of f, relative to its terms
  static constexpr float kFine = 1e-6f;      // of z at a kink, relative to what X can make of it

  void begin(CcpProblem& problem) {
    target_ = problem.target;
    first_ = problem.begin * layers_[0].in_stride;
    here_ = StackPass(layers_, count_, problem.begin, problem.end, here_memory_.data());
    there_ = StackPass(layers_, count_, problem.begin, problem.end, there_memory_.data());
    tilt_ = {problem.end - problem.begin, layers_[0].in_stride, tilt_memory_.data(),
             tilt_memory_.data() + layers_[0].in_stride};
    last_ = first_ + tilt_.rows * tilt_.width;
    kinks_.clear();
    // In the first layer all that pulls against X is known beforehand: with it, each step is one of the procedure for a
    // difference of convex functions, and f cannot fall but for Sim.
    for (int64_t k = 0; products_.gram != nullptr && k < layers_[0].out_channels; ++k)
      if (target_[k] < 0 && here_.place(0).first < here_.place(0).end) kinks_.push_back({0, k, 1.0f});
    here_.open_all();  // X of all gates open is where the ascent starts
    here_.backward(target_, pull_.data());
    for (FloatBuffer* each : {&x_, &kept_, &trial_, &summit_}) std::fill_n(each->data(), floats_, 0.0f);
    for (int64_t i = first_; i < last_; ++i) x_[i] = half_ * pull_[i];
  }

  Height measure(FloatBuffer& x, StackPass& pass) {
    pass.forward(x.data(), activation_);
    double reached = 0;
    for (int64_t k = 0; k < layers_[count_ - 1].out_channels; ++k)
      reached += static_cast<double>(target_[k]) * activate(activation_, pass.last_z()[k]);
    const double rest = tilt_.worth(settings_, x.data() + first_);
    return {reached + rest, std::abs(reached) + std::abs(rest)};
  }

  // The summit for the gates of X, kinks in their box. Returns how far it is, relative to the pull.
  double look() {
    for (bool changed = true; changed;) {
      for (const Kink& kink : kinks_) set_gate(kink, kink.share);
      here_.backward(target_, pull_.data());
      changed = false;
      // A coefficient that the kinks above have turned positive makes the unit's gate a plain one again.
      for (size_t i = kinks_.size(); i-- > 0;) {
        if (here_.place(kinks_[i].layer).arriving[kinks_[i].unit] < 0) continue;
        set_gate(kinks_[i], here_.place(kinks_[i].layer).z[kinks_[i].unit] > 0 ? 1.0f : 0.0f);
        kinks_.erase(kinks_.begin() + static_cast<int64_t>(i));
        changed = true;
      }
    }
    tilt_.worth(settings_, x_.data() + first_);
    tilt_.tilted_pull(settings_, x_.data() + first_, pull_.data() + first_, summit_.data() + first_);
    for (int64_t i = first_; i < last_; i += kLanes) store(&summit_[i], half_ * load(&summit_[i]));
    if (!kinks_.empty()) balance_kinks();
    double squared = 0, pull = 0, here = 0;
    for (int64_t row = first_; row < last_; row += tilt_.width) {
      Vec offs{}, pulls{}, heres{};
      for (int64_t i = row; i < row + tilt_.width; i += kLanes) {
        const Vec off = load(&summit_[i]) - load(&x_[i]);
        offs += off * off;
        pulls += load(&pull_[i]) * load(&pull_[i]);
        heres += load(&x_[i]) * load(&x_[i]);
      }
      squared += sum(offs);
      pull += sum(pulls) * half_ * half_;
      here += sum(heres);
    }
    distance_ = squared;
    return squared > 0 ? std::sqrt(squared / (pull > 0 ? pull : here > 0 ? here : squared)) : 0.0;
  }

  void set_gate(const Kink& kink, float share) {
    here_.place(kink.layer).gate[kink.unit] = activation_.slope + (1 - activation_.slope) * share;
  }

  // Finds the kinks' shares, and moves the pull and the summit to what they say.
  void balance_kinks() {
    const int64_t length = last_ - first_;
    const FilterProducts products = products_.gram != nullptr ? products_ : measure_kinks();
    std::fill(z_.begin(), z_.end(), 0.0);
    places_.clear();
    for (size_t i = 0; i < kinks_.size(); ++i) {
      const Kink& kink = kinks_[i];
      const int64_t place = place_of(i);
      const float* jacobian = jacobian_of(i) + first_;
      places_.push_back(place);
      z_[place] = static_cast<double>(here_.place(kink.layer).z[kink.unit]) + dot(jacobian, &summit_[first_], length) -
                  dot(jacobian, &x_[first_], length);
      most_[place] = -here_.place(kink.layer).arriving[kink.unit] * (1 - activation_.slope);
      y_[place] = static_cast<double>(most_[place]) * kink.share;
    }
    const double reach =
        std::sqrt(std::max(dot(&x_[first_], &x_[first_], length), dot(&summit_[first_], &summit_[first_], length)));
    solve_box({static_cast<int64_t>(places_.size()), places_.data(), most_.data(), products.gram, products.stride,
               half_, products.norms, reach},
              y_.data(), z_.data());
    for (size_t i = 0; i < kinks_.size(); ++i) {
      const float most = most_[place_of(i)], share = static_cast<float>(y_[place_of(i)] / most);
      const float moved = most * (kinks_[i].share - share);
      kinks_[i].share = share;
      if (moved == 0) continue;
      add_scaled(&pull_[first_], moved, jacobian_of(i) + first_, length);
      add_scaled(&summit_[first_], half_ * moved, jacobian_of(i) + first_, length);
    }
  }

  // In the first layer a unit's gradient is its filter, and its place its channel.
  int64_t place_of(size_t i) const { return products_.gram != nullptr ? kinks_[i].unit : static_cast<int64_t>(i); }
  const float* jacobian_of(size_t i) {
    return products_.gram != nullptr ? layers_[0].rows + kinks_[i].unit * layers_[0].span()
                                     : &jacobians_[static_cast<int64_t>(i) * floats_];
  }

  // The gradients of the kinks' pre-activations, and their products.
  FilterProducts measure_kinks() {
    const int64_t count = static_cast<int64_t>(kinks_.size()), length = last_ - first_;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t stride = layers_[kinks_[i].layer].out_stride;
      float* jacobian = &jacobians_[i * floats_];
      here_.unit_gradient(kinks_[i].layer, kinks_[i].unit / stride, kinks_[i].unit % stride, jacobian);
      for (int64_t j = 0; j <= i; ++j)
        gram_[i * kMostKinks + j] = gram_[j * kMostKinks + i] =
            dot(jacobian + first_, &jacobians_[j * floats_ + first_], length);
      norms_[i] = std::sqrt(static_cast<double>(gram_[i * kMostKinks + i]));
    }
    return {gram_.data(), kMostKinks, norms_.data()};
  }

  // The units between X and the summit that pull against it and are no kinks yet, those first that take most; their
  // losses, of f at the summit, into `lost`.
  std::vector<std::pair<float, Kink>> passed_kinks(double& lost) const {
    std::vector<std::pair<float, Kink>> passed;
    lost = 0;
    for (int64_t l = 0; l < count_; ++l) {
      const PassLayer &here = here_.place(l), &there = there_.place(l);
      for (int64_t p = here.first; p < here.end; ++p)
        for (int64_t c = 0; c < layers_[l].out_channels; ++c) {
          const int64_t unit = p * layers_[l].out_stride + c;
          if ((here.z[unit] > 0) == (there.z[unit] > 0) || !(here.arriving[unit] < 0)) continue;
          if (std::any_of(kinks_.begin(), kinks_.end(),
                          [&](const Kink& kink) { return kink.layer == l && kink.unit == unit; }))
            continue;
          const float loss = -here.arriving[unit] * std::abs(there.z[unit]);
          lost += loss;
          passed.push_back({loss, {l, unit, here.z[unit] > 0 ? 1.0f : 0.0f}});
        }
    }
    std::sort(passed.begin(), passed.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    return passed;
  }

  // Makes kinks of the units passed on the way to the summit where they take much of what it promised, which is
  // lambda1 ||summit - X||^2. Far from the summit f itself says so; near it f is hidden by rounding. Returns whether
  // there are new ones.
  bool add_kinks(const Height& height, const Height& reached) {
    if (activation_.slope == 1) return false;  // identity: nothing bends
    const double promised = settings_.l2_weight * distance_;
    const bool near = promised < kNear * height.size;
    if (!near && reached.value >= height.value + 0.25 * promised) return false;
    double lost = 0;
    const std::vector<std::pair<float, Kink>> passed = passed_kinks(lost);
    if (near && lost < 0.1 * promised) return false;
    const size_t before = kinks_.size();
    for (const auto& [loss, kink] : passed)
      if (static_cast<int64_t>(kinks_.size()) < kMostKinks) kinks_.push_back(kink);
    return kinks_.size() > before;
  }

  // Kinks at which X does not rest have the gate of their sign again.
  void forget_settled_kinks() {
    if (products_.gram != nullptr) return;
    std::erase_if(kinks_, [](const Kink& kink) { return kink.share == 0 || kink.share == 1; });
  }

  void finish(CcpProblem& problem) {
    here_.forward(x_.data(), activation_);
    for (int64_t k = 0; k < layers_[count_ - 1].out_channels; ++k)
      problem.gates[k] = target_[k] != 0 && here_.last_z()[k] > 0;
    std::copy_n(x_.data(), floats_, problem.x);
  }

  const PackedLayer* layers_;
  int64_t count_;
  const CcpSettings& settings_;
  Activation activation_;
  float half_;  // 1 / (2 lambda1)
  int64_t floats_;
  FloatBuffer here_memory_, there_memory_, tilt_memory_;
  FloatBuffer jacobians_;  // (kMostKinks, R * in_stride)
  FloatBuffer gram_;       // (kMostKinks, kMostKinks)
  std::vector<double> norms_;
  FloatBuffer x_, kept_, trial_, summit_, pull_;  // (R, in_stride) each
  StackPass here_, there_;                        // at X, and at what was tried last
  TiltedRows tilt_;
  const float* target_;
  int64_t first_, last_;  // floats of the rows that exist
  double distance_;       // ||summit - X||^2
  std::vector<Kink> kinks_;
  FilterProducts products_;
  std::vector<int64_t> places_;
  std::vector<double> y_, z_;
  std::vector<float> most_;
};

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif
