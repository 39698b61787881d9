#!/usr/bin/env python3
# ruff: noqa: ASYNC210, ASYNC230 - blocking calls in `async def`, as the guide has them
"""The agents of the guide as one runnable app: sections 9 and 11.

What differs from the guide: temporary files belong to one request, so that two requests cannot meet; results that are
no success are reported as such; `process_file`, which the guide leaves open, is here; `GET /health`.
"""

import csv
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import httpx
from fastapi import Depends, FastAPI, Header

from gateway_sdk import GatewayClient

app = FastAPI(title="Guide agent")


# 定义 Gateway Client 依赖注入
def get_gateway_client(x_internal_token: str = Header(..., alias="X-Internal-Token")) -> GatewayClient:
    """
    从请求头获取 internal token 并创建 Gateway 客户端

    Gateway 会自动注入 X-Internal-Token 到 Agent 的请求头
    """
    return GatewayClient(internal_token=x_internal_token)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


# ============================================
# 第 9 节：完整文件处理示例
# ============================================


def process_file(content: bytes) -> Any:
    """任意文件的第一步处理：JSON 原样，CSV 变成行，其他文本按行切分。"""
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            text = content.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        raise ValueError("文件不是文本")
    try:
        return json.loads(text)
    except ValueError:
        pass
    lines = [line for line in text.splitlines() if line.strip()]
    rows = list(csv.DictReader(io.StringIO(text)))
    if len(lines) > 1 and len(rows[0]) > 1 and all(None not in row and None not in row.values() for row in rows):
        return [{name: _value(cell) for name, cell in row.items()} for row in rows]
    return [{"line": number, "text": line, "length": len(line)} for number, line in enumerate(lines, 1)]


def _value(cell: str) -> Any:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell or None


@app.post("/process-and-save")
async def process_and_save(
    request_data: dict[str, Any], gateway_client: GatewayClient = Depends(get_gateway_client)
) -> dict[str, Any]:
    """
    完整的文件处理流程：
    1. 接收输入文件 URL
    2. 下载并处理
    3. 上传临时文件
    4. 调用 Prefab 处理
    5. 上传最终结果
    6. 清理临时文件
    """
    try:
        # 1. 获取输入文件
        input_s3_url = request_data.get("parameters", {}).get("input_file")
        if not input_s3_url:
            return {"success": False, "message": "缺少必要参数: input_file"}

        # 2. 下载输入文件
        download_url = gateway_client.download_file(input_s3_url)
        response = httpx.get(download_url)
        response.raise_for_status()

        with tempfile.TemporaryDirectory() as folder:
            temp_result = Path(folder, "temp_result.json")
            final_result = Path(folder, "final_result.txt")

            # 3. 处理文件并保存临时结果
            processed_data = process_file(response.content)
            with open(temp_result, "w", encoding="utf-8") as f:
                json.dump(processed_data, f)

            # 4. 上传临时文件
            temp_s3_url = gateway_client.upload_temp_file(
                file_path=str(temp_result),
                content_type="application/json",
                ttl_hours=1,
                session_id=request_data.get("session_id", "default"),
            )

            # 5. 调用 Prefab 进一步处理
            result = gateway_client.run(
                prefab_id="data-analyzer",
                version="1.0.0",
                function_name="analyze",
                parameters={},
                files={"input": [temp_s3_url]},
            )

            if not result.is_success():
                return {"success": False, "message": f"处理失败: {result.error}"}
            final_output = result.get_function_result() or {}
            if not final_output.get("success"):
                return {"success": False, "message": f"处理失败: {final_output.get('error', '未知错误')}"}

            # 6. 上传最终结果为永久文件
            with open(final_result, "w", encoding="utf-8") as f:
                f.write(final_output.get("content", ""))

            final_s3_url = gateway_client.upload_file(file_path=str(final_result), content_type="text/plain")

        # 7. 清理临时文件
        gateway_client.cleanup_temp_files(session_id=request_data.get("session_id", "default"))

        return {
            "success": True,
            "data": [
                {
                    "title": "处理完成",
                    "description": "文件已成功处理",
                    "metadata": {"output_file": final_s3_url},
                    "tags": ["已完成"],
                }
            ],
            "message": "处理成功",
        }

    except Exception as e:
        return {"success": False, "message": f"处理异常: {e!s}"}


# ============================================
# 第 11 节，示例 1：Agent 端点调用 Prefab（推荐）
# ============================================


@app.post("/weather-advice")
async def get_weather_advice(
    request_data: dict[str, Any], gateway_client: GatewayClient = Depends(get_gateway_client)
) -> dict[str, Any]:
    """
    Agent 端点示例：调用天气 Prefab 获取建议

    接收用户请求 → 调用 Prefab → 返回结果
    """
    # 从请求参数中提取数据
    parameters = request_data.get("parameters", {})
    user_location = parameters.get("location")

    # 调用 Prefab
    result = gateway_client.run(
        prefab_id="weather-forecaster",
        version="1.0.0",
        function_name="get_forecast",
        parameters={"location": user_location},
    )

    # ✅ 第 1 步：检查 SDK 调用是否成功
    if result.is_success():
        # ✅ 第 2 步：获取函数返回值
        function_result = result.get_function_result()

        if function_result and function_result.get("success"):
            # 业务成功
            return {
                "success": True,
                "data": [
                    {
                        "title": "天气预报",
                        "description": function_result.get("message"),
                        "status": "completed",
                        "metadata": function_result.get("data", {}),
                        "tags": ["已完成"],
                    }
                ],
                "message": "查询成功",
            }
        else:
            # 业务失败
            return {
                "success": False,
                "data": [
                    {
                        "title": "查询失败",
                        "description": (function_result or {}).get("error", "未知错误"),
                        "status": "failed",
                        "tags": ["失败"],
                    }
                ],
                "message": "业务执行失败",
            }
    else:
        # SDK 调用失败
        return {
            "success": False,
            "data": [
                {"title": "调用失败", "description": str(result.error), "status": "failed", "tags": ["失败"]},
            ],
            "message": "Prefab 调用失败",
        }


# ============================================
# 第 11 节，示例 2：调用涉及文件的 Prefab
# ============================================


@app.post("/process-document")
async def process_document(
    request_data: dict[str, Any], gateway_client: GatewayClient = Depends(get_gateway_client)
) -> dict[str, Any]:
    """
    Agent 端点示例：调用文档处理 Prefab

    处理流程：接收 S3 文件 URL → 调用 Prefab 处理 → 返回结果文件 URL
    """
    # 从请求参数中提取文件 URL
    parameters = request_data.get("parameters", {})
    input_file_url = parameters.get("document_url")  # S3 URL

    if not input_file_url:
        return {"success": False, "data": [], "message": "缺少必要参数: document_url"}

    # 调用文档处理 Prefab
    result = gateway_client.run(
        prefab_id="document-processor",
        version="1.0.0",
        function_name="extract_text",
        parameters={"language": "zh"},
        files={"input": [input_file_url]},  # 传递 S3 URL
    )

    if result.is_success():
        function_result = result.get_function_result()
        output_files = result.get_files()

        if function_result and function_result.get("success"):
            # 获取输出文件 S3 URL
            output_url = output_files.get("output", [])[0] if output_files.get("output") else None

            return {
                "success": True,
                "data": [
                    {
                        "title": "文档处理完成",
                        "description": function_result.get("message"),
                        "status": "completed",
                        "metadata": {
                            "输出文件": output_url,
                            "提取字数": function_result.get("data", {}).get("word_count", 0),
                        },
                        "tags": ["已完成"],
                    }
                ],
                "message": "处理成功",
            }
        else:
            return {"success": False, "data": [], "message": (function_result or {}).get("error", "处理失败")}
    else:
        return {"success": False, "data": [], "message": f"Prefab 调用失败: {result.error}"}


# ============================================
# 第 11 节，示例 3：链式调用多个 Prefab
# ============================================


@app.post("/translate-and-analyze")
async def translate_and_analyze(
    request_data: dict[str, Any], gateway_client: GatewayClient = Depends(get_gateway_client)
) -> dict[str, Any]:
    """
    Agent 端点示例：链式调用多个 Prefab

    流程：翻译文本 → 分析情感 → 返回综合结果
    """
    parameters = request_data.get("parameters", {})
    text = parameters.get("text")

    if not text:
        return {"success": False, "message": "缺少文本参数"}

    try:
        # 第 1 步：翻译文本
        translate_result = gateway_client.run(
            prefab_id="translator",
            version="1.0.0",
            function_name="translate",
            parameters={"text": text, "target": "en"},
        )

        if not translate_result.is_success():
            return {"success": False, "message": "翻译失败"}

        translate_output = translate_result.get_function_result()
        if not translate_output or not translate_output.get("success"):
            return {"success": False, "message": "翻译失败"}

        translated_text = translate_output.get("translated_text")

        # 第 2 步：分析情感
        sentiment_result = gateway_client.run(
            prefab_id="sentiment-analyzer",
            version="1.0.0",
            function_name="analyze",
            parameters={"text": translated_text},
        )

        if not sentiment_result.is_success():
            return {"success": False, "message": "情感分析失败"}

        sentiment_output = sentiment_result.get_function_result()
        if not sentiment_output or not sentiment_output.get("success"):
            return {"success": False, "message": "情感分析失败"}

        # 返回综合结果
        return {
            "success": True,
            "data": [
                {
                    "title": "分析完成",
                    "description": "翻译和情感分析已完成",
                    "status": "completed",
                    "metadata": {
                        "原文": text,
                        "译文": translated_text,
                        "情感": sentiment_output.get("sentiment"),
                        "置信度": sentiment_output.get("confidence"),
                    },
                    "tags": ["已完成"],
                }
            ],
            "message": "处理成功",
        }

    except Exception as e:
        return {"success": False, "data": [], "message": f"处理异常: {e!s}"}


# 启动 Agent
if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host=os.environ.get("HOST", "0.0.0.0"), port=int(os.environ.get("PORT", "8080")))
